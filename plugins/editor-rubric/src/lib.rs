//! Editor of the sandbox: repairs what the hidden rubric marks as defective.
