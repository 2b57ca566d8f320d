//! `finegrain report`: a finished run or comparison as one HTML file.

use crate::cli::ReportArgs;
use crate::commands::emit;
use crate::error::Result;
use crate::report::html;

pub(super) fn report(args: &ReportArgs) -> Result<()> {
    let page = html::write(&args.path, args.out.as_deref())?;
    emit(&format!("{}\n", page.display()))
}
