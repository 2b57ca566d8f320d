//! Rows of a Parquet file; lists and structures are lists and objects.

use std::fs::File;
use std::path::Path;

use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};

use super::{Read, Unit};
use crate::error::{Error, Result};

/// Reads up to `most` rows.
pub(super) fn read(path: &Path, most: usize) -> Result<Read> {
    let fail = |error: ParquetError| {
        Error::input(format!(
            "{}: cannot read this Parquet file: {error}",
            path.display()
        ))
        .hint("in Python: pandas.read_parquet(FILE).to_json(NEW, orient=\"records\", lines=True)")
    };
    let file = File::open(path).map_err(|error| Error::io("read", path, &error))?;
    let reader = SerializedFileReader::new(file).map_err(fail)?;
    let mut read = Read::new(Unit::Row);
    for (at, row) in reader
        .get_row_iter(None)
        .map_err(fail)?
        .take(most)
        .enumerate()
    {
        read.rows.push((at + 1, row.map_err(fail)?.to_json_value()));
    }
    Ok(read)
}
