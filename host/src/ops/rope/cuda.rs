//! Rotations on a GPU.

use std::sync::{Arc, PoisonError};

use super::{Direction, Frequencies, table};
use crate::device::{Buffer, Gpu, Launch, Program, Real, View, ViewMut};
use crate::error::Result;

/// A table on the device: a row of (cosine, sine) pairs for each position, times the factor, (positions, D/2, 2).
#[derive(Clone, Debug)]
pub(crate) struct DeviceTable {
    frequencies: Frequencies,
    positions: usize,
    pub(crate) values: Arc<Buffer<f32>>,
}

/// A table of at least `positions` rows; the same one for the same frequencies while rows are not longer.
///
/// # Errors
/// No memory on the device.
pub(crate) fn device_table(
    gpu: &Arc<Gpu>,
    frequencies: &Frequencies,
    positions: usize,
) -> Result<DeviceTable> {
    let mut tables = gpu.tables.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |t: &DeviceTable| t.frequencies.is(frequencies);
    let found = tables.iter().position(same);
    if let Some(at) = found
        && tables[at].positions >= positions
    {
        return Ok(tables[at].clone());
    }
    let positions = positions.next_power_of_two().max(256);
    let half = frequencies.of.len();
    let host = table(frequencies, positions);
    let mut values = Vec::with_capacity(positions * half * 2);
    for position in 0..positions {
        let (cosines, sines) = host.row(position as u32).split_at(half);
        for (cosine, sine) in cosines.iter().zip(sines) {
            values.extend([*cosine as f32, *sine as f32]);
        }
    }
    let made = DeviceTable {
        frequencies: frequencies.clone(),
        positions,
        values: Arc::new(Buffer::upload(gpu, &values)?),
    };
    match found {
        Some(at) => tables[at] = made.clone(),
        None => tables.push(made.clone()),
    }
    Ok(made)
}

/// Turns the first `heads` heads of every row of `values` (n, width) by the row's position, in place.
///
/// # Errors
/// A launch that fails.
pub(crate) fn turn(
    gpu: &Gpu,
    mut values: ViewMut<'_, Real>,
    (width, heads): (usize, usize),
    positions: View<'_, i32>,
    table: &DeviceTable,
    direction: Direction,
) -> Result<()> {
    let (rows, size) = (positions.len(), 2 * table.frequencies.of.len());
    assert_eq!(values.len(), rows * width);
    assert!(heads * size <= width);
    let sign: f32 = match direction {
        Direction::Forward => 1.0,
        Direction::Backward => -1.0,
    };
    let args = [
        (&mut values).into(),
        positions.into(),
        table.values.view().into(),
        rows.into(),
        width.into(),
        heads.into(),
        sign.into(),
    ];
    let launch = Launch::new(rows.div_ceil(8), 128);
    gpu.launch(Program::Heads(size), "rope_turn", launch, &args)
}
