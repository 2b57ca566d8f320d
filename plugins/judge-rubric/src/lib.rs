//! Judge of the sandbox: compares two responses by the hidden rubric.
