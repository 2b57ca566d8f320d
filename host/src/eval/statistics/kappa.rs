//! Agreement of two raters beyond what chance would give.

/// Cohen's κ (Cohen 1960, *A coefficient of agreement for nominal scales*), `(p_o − p_e) / (1 − p_e)`: `p_o` is the share of units
/// that both put into the same class, `p_e` the share that would be so if each kept its own shares of classes and they had
/// nothing else in common. 1 is full agreement, 0 that of chance, below 0 less than that.
///
/// `counts[i][j]` is the number of units that the first put into class i and the second into class j. `None` of no units, and
/// where both put all of them into one class: chance agrees always then.
pub fn cohen_kappa<const K: usize>(counts: &[[usize; K]; K]) -> Option<f64> {
    let n = counts.iter().flatten().sum::<usize>() as f64;
    let same: usize = (0..K).map(|class| counts[class][class]).sum();
    let by_chance: f64 = (0..K)
        .map(|class| {
            let first: usize = counts[class].iter().sum();
            let second: usize = counts.iter().map(|row| row[class]).sum();
            first as f64 * second as f64
        })
        .sum();
    // In whole numbers as long as they are: κ = (n·same − Σ) / (n² − Σ).
    let (above, most) = (n * same as f64 - by_chance, n * n - by_chance);
    (most > 0.0).then(|| above / most)
}

#[cfg(test)]
mod tests {
    use super::*;

    // By hand, (p_o − p_e) / (1 − p_e); sklearn.metrics.cohen_kappa_score gives the same from the two lists of classes.
    // 20 5 / 10 15, n = 50: p_o = 35/50 = 0.7; p_e = (25·30 + 25·20)/2500 = 0.5; κ = 0.4.
    // 45 15 / 25 15, n = 100: p_o = 0.6; p_e = (60·70 + 40·30)/10000 = 0.54; κ = 0.06/0.46 = 0.130434…
    // 12 3 1 / 2 6 2 / 4 1 9, n = 40: p_o = 27/40; p_e = (16·18 + 10·10 + 14·12)/1600 = 556/1600; κ = (1080 − 556)/(1600 − 556).
    #[test]
    fn kappa_of_known_tables() {
        let near = |found: Option<f64>, known: f64| (found.unwrap() - known).abs() < 1e-12;
        assert!(near(cohen_kappa(&[[20, 5], [10, 15]]), 0.4));
        assert!(near(cohen_kappa(&[[45, 15], [25, 15]]), 0.06 / 0.46));
        let three = [[12, 3, 1], [2, 6, 2], [4, 1, 9]];
        assert!(near(cohen_kappa(&three), 524.0 / 1044.0));
    }

    #[test]
    fn full_agreement_is_one_and_chance_is_nothing() {
        assert_eq!(cohen_kappa(&[[7, 0, 0], [0, 2, 0], [0, 0, 3]]), Some(1.0));
        assert_eq!(cohen_kappa(&[[4, 4], [4, 4]]), Some(0.0));
        assert_eq!(cohen_kappa(&[[0, 5], [5, 0]]), Some(-1.0));
        assert_eq!(cohen_kappa(&[[9, 0], [0, 0]]), None);
        assert_eq!(cohen_kappa(&[[0; 3]; 3]), None);
    }
}
