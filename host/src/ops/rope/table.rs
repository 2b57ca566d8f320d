//! Cosines and sines of the rotary embedding, computed in f64 and shared by all calls of the process.

use std::sync::{Arc, Mutex, PoisonError};

use super::Frequencies;

/// A row for each position: D/2 cosines, then D/2 sines, of position · frequency, all times the frequencies' factor.
#[derive(Debug)]
pub struct Table {
    frequencies: Frequencies,
    values: Vec<f64>,
}

impl Table {
    fn new(frequencies: &Frequencies, positions: usize) -> Self {
        let Frequencies { of, factor } = frequencies;
        let mut values = Vec::with_capacity(positions * of.len() * 2);
        for position in 0..positions {
            let angle = |&frequency: &f64| position as f64 * frequency;
            values.extend(of.iter().map(|f| angle(f).cos() * factor));
            values.extend(of.iter().map(|f| angle(f).sin() * factor));
        }
        Self {
            frequencies: frequencies.clone(),
            values,
        }
    }

    fn positions(&self) -> usize {
        self.values.len() / (2 * self.frequencies.of.len()).max(1)
    }

    /// Cosines, then sines of a position.
    pub fn row(&self, position: u32) -> &[f64] {
        let width = 2 * self.frequencies.of.len();
        &self.values[position as usize * width..][..width]
    }
}

/// The tables made so far: one for each set of frequencies, as long as the longest row seen (to the next power of two).
static TABLES: Mutex<Vec<Arc<Table>>> = Mutex::new(Vec::new());

/// A table of at least `positions` rows.
pub fn table(frequencies: &Frequencies, positions: usize) -> Arc<Table> {
    // A panic elsewhere cannot leave a table half made: they are pushed whole.
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |table: &Arc<Table>| table.frequencies.is(frequencies);
    match tables.iter().position(same) {
        Some(at) if tables[at].positions() >= positions => tables[at].clone(),
        found => {
            let rows = positions.next_power_of_two().max(256);
            let table = Arc::new(Table::new(frequencies, rows));
            match found {
                Some(at) => tables[at] = table.clone(),
                None => tables.push(table.clone()),
            }
            table
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_table_begins_like_a_shorter_one() {
        let frequencies = Frequencies::new(10_000.0, 4);
        let short = table(&frequencies, 3);
        let long = table(&Frequencies::new(10_000.0, 4), 1000);
        assert!(long.positions() >= 1000);
        assert_eq!(short.row(2), long.row(2));
        // Position 2, pair 1 of 4: 2 · 10000^(−1/4) = 0.2.
        assert!((long.row(2)[1] - 0.2f64.cos()).abs() < 1e-15);
        assert!((long.row(2)[5] - 0.2f64.sin()).abs() < 1e-15);
    }
    #[test]
    fn other_frequencies_have_another_table() {
        let plain = Frequencies::new(10_000.0, 3);
        let scaled = Frequencies {
            factor: 1.5,
            ..plain.clone()
        };
        let (one, other) = (table(&plain, 3), table(&scaled, 3));
        assert_eq!(one.row(0), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(other.row(0), [1.5, 1.5, 1.5, 0.0, 0.0, 0.0]);
        assert!(Arc::ptr_eq(&table(&plain, 3), &one));
        assert_eq!(table(&plain.clone().linear(2.0), 3).row(2), one.row(1));
    }
}
