//! Cosines and sines of the rotary embedding, computed in f64 and shared by all calls of the process.

use std::sync::{Arc, Mutex, PoisonError};

/// A row for each position: D/2 cosines, then D/2 sines, of position · theta^(−2i/D).
#[derive(Debug)]
pub struct Table {
    theta: f64,
    half: usize,
    values: Vec<f64>,
}

impl Table {
    fn new(theta: f64, half: usize, positions: usize) -> Self {
        let frequencies: Vec<f64> = (0..half)
            .map(|i| theta.powf(-(i as f64) / half as f64))
            .collect();
        let mut values = Vec::with_capacity(positions * half * 2);
        for position in 0..positions {
            let angle = |&frequency: &f64| position as f64 * frequency;
            values.extend(frequencies.iter().map(|f| angle(f).cos()));
            values.extend(frequencies.iter().map(|f| angle(f).sin()));
        }
        Self {
            theta,
            half,
            values,
        }
    }

    fn positions(&self) -> usize {
        self.values.len() / (2 * self.half).max(1)
    }

    /// Cosines, then sines of a position.
    pub fn row(&self, position: u32) -> &[f64] {
        let width = 2 * self.half;
        &self.values[position as usize * width..][..width]
    }
}

/// The tables made so far: one for each theta and head size, as long as the longest row seen (to the next power of two).
static TABLES: Mutex<Vec<Arc<Table>>> = Mutex::new(Vec::new());

/// A table of at least `positions` rows.
pub fn table(theta: f64, half: usize, positions: usize) -> Arc<Table> {
    // A panic elsewhere cannot leave a table half made: they are pushed whole.
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |table: &Arc<Table>| table.theta.to_bits() == theta.to_bits() && table.half == half;
    match tables.iter().position(same) {
        Some(at) if tables[at].positions() >= positions => tables[at].clone(),
        found => {
            let rows = positions.next_power_of_two().max(256);
            let table = Arc::new(Table::new(theta, half, rows));
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
        let short = table(10_000.0, 4, 3);
        let long = table(10_000.0, 4, 1000);
        assert!(long.positions() >= 1000);
        assert_eq!(short.row(2), long.row(2));
        // Position 2, pair 1 of 4: 2 · 10000^(−1/4) = 0.2.
        assert!((long.row(2)[1] - 0.2f64.cos()).abs() < 1e-15);
        assert!((long.row(2)[5] - 0.2f64.sin()).abs() < 1e-15);
    }
}
