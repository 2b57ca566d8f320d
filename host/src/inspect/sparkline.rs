//! A row of numbers as a row of Unicode blocks.

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `values` in at most `width` blocks between their minimum and maximum. More values than blocks are averaged, block by
/// block, over those that are finite; a block without any is a blank. Equal values are a middle line.
pub fn sparkline(values: &[f64], width: usize) -> String {
    let means = averaged(values, width);
    let finite = || means.iter().copied().filter(|v| v.is_finite());
    let (low, high) = (
        finite().fold(f64::INFINITY, f64::min),
        finite().fold(f64::NEG_INFINITY, f64::max),
    );
    means
        .iter()
        .map(|&v| match v {
            v if !v.is_finite() => ' ',
            _ if high <= low => BLOCKS[3],
            v => BLOCKS[(((v - low) / (high - low)) * 7.0).round() as usize],
        })
        .collect()
}

/// The mean of every stretch; NaN where no value of it is finite.
fn averaged(values: &[f64], width: usize) -> Vec<f64> {
    let blocks = values.len().min(width);
    (0..blocks)
        .map(|block| {
            let stretch =
                &values[block * values.len() / blocks..(block + 1) * values.len() / blocks];
            let finite = stretch.iter().filter(|v| v.is_finite());
            let (sum, n) = finite.fold((0.0, 0_u32), |(sum, n), v| (sum + v, n + 1));
            if n == 0 { f64::NAN } else { sum / f64::from(n) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_gaps_and_averages() {
        assert_eq!(
            sparkline(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 8),
            "▁▂▃▄▅▆▇█"
        );
        assert_eq!(sparkline(&[0.0, f64::NAN, 1.0], 8), "▁ █");
        assert_eq!(sparkline(&[0.0, f64::NAN, 1.0, 3.0], 2), "▁█");
        assert_eq!(sparkline(&[2.0, 2.0], 8), "▄▄");
        assert_eq!(sparkline(&[f64::NAN; 3], 8), "   ");
        assert_eq!(sparkline(&[], 8), "");
        assert_eq!(averaged(&[1.0, 3.0, 5.0, f64::NAN], 2), [2.0, 5.0]);
        assert_eq!(averaged(&[1.0, 2.0, 3.0, 4.0, 5.0], 2), [1.5, 4.0]);
    }
}
