//! Editor `rubric`: the sandbox's annotator, which repairs what the hidden rubric marks as defective and nothing else.

mod editor;

pub use editor::{Options, RubricEditor};

finegrain_sdk::register!(Editor, RubricEditor);
finegrain_sdk::export_plugin!();
