use super::*;

fn lines(name: &str, values: &[f64]) -> Vec<MetricLine> {
    let numbered = (1..).zip(values);
    numbered
        .map(|(step, &value)| MetricLine::new(step, step as f64, &[(name, value)]))
        .collect()
}

/// Alarms that go off over a sequence of one figure, with their steps.
fn over(config: &AlarmsConfig, name: &str, values: &[f64]) -> Vec<(&'static str, u64)> {
    let found = Alarms::over(config, &lines(name, values));
    found
        .iter()
        .map(|finding| (finding.alarm, finding.step))
        .collect()
}

#[test]
fn the_divergence_must_stay_above_its_threshold_for_three_steps() {
    let config = AlarmsConfig::default();
    let kl = |values: &[f64]| over(&config, "kl/response_k1", values);
    // Means of three: 50.0 is not above 50; 50.33 is.
    assert_eq!(kl(&[0.0, 49.0, 50.0, 51.0]), []);
    assert_eq!(kl(&[0.0, 49.0, 50.0, 52.0]), [("kl_runaway", 4)]);
    assert_eq!(kl(&[100.0, 0.0, 0.0, 0.0]), [], "one odd rollout");
    assert_eq!(kl(&[100.0, 100.0]), [], "too few");
    assert_eq!(kl(&[90.0; 8]), [("kl_runaway", 3)], "once");
}

#[test]
fn the_entropy_is_measured_by_that_of_the_first_step() {
    let config = AlarmsConfig::default();
    let entropy = |values: &[f64]| over(&config, "policy/entropy", values);
    assert_eq!(entropy(&[2.0, 0.41, 0.41, 0.41]), []);
    assert_eq!(entropy(&[2.0, 0.39, 0.39, 0.39]), [("entropy_collapse", 4)]);
    assert_eq!(entropy(&[0.1, 0.1, 0.1]), [], "low from the start");
}

#[test]
fn a_length_that_doubles_or_responses_that_no_longer_end() {
    let config = AlarmsConfig::default();
    let length = |values: &[f64]| over(&config, "response/mean_length", values);
    assert_eq!(length(&[20.0, 40.0, 40.0, 40.0]), []);
    assert_eq!(length(&[20.0, 40.0, 40.0, 40.5]), [("length_blow_up", 4)]);
    let eos = |values: &[f64]| over(&config, "response/eos_rate", values);
    assert_eq!(eos(&[0.8, 0.4, 0.4, 0.4]), []);
    assert_eq!(eos(&[0.8, 0.4, 0.4, 0.35]), [("length_blow_up", 4)]);
    assert_eq!(eos(&[0.0, 0.0, 0.0, 0.0]), [], "never ended");
}

/// Rewards and scores of steps 1, 2, …; the evaluation of step 0 scores 0.5; standard errors are 0.03.
fn optimised(rewards: &[f64], scores: &[f64]) -> Vec<Finding> {
    let evaluation = |step: u64, score: f64| {
        [
            MetricLine::new(step, 0.0, &[("evaluation/standard_error", 0.03)]),
            MetricLine::new(step, 0.0, &[("evaluation/score", score)]),
        ]
    };
    let mut lines = evaluation(0, 0.5).to_vec();
    for (step, (&reward, &score)) in (1..).zip(rewards.iter().zip(scores)) {
        // The KL channel pulls the total down; the scheme's own reward is what counts.
        let total = [("reward/total", reward - 5.0), ("reward/kl", -5.0)];
        lines.push(MetricLine::new(step, 0.0, &total));
        lines.extend(evaluation(step, score));
    }
    Alarms::over(&AlarmsConfig::default(), &lines)
}

#[test]
fn the_reward_up_and_the_score_down_by_more_than_its_noise() {
    // Two standard errors of a difference: 2·√2·0.03 = 0.0849.
    let rising = [1.0, 2.0, 3.0, 4.0];
    let found = optimised(&rising, &[0.55, 0.60, 0.60, 0.515]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].alarm, found[0].step), ("over_optimisation", 4));
    let said = found[0].to_string();
    for word in [
        "step 4",
        "0.515",
        "0.085",
        "step 2",
        "rose from 1.500 to 3.000",
    ] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    let quiet: [(&[f64], &[f64]); 3] = [
        (&rising, &[0.55, 0.60, 0.60, 0.516]),
        // Both fall: training is bad, and the reward says so.
        (&[4.0, 3.0, 2.0, 1.0], &[0.55, 0.60, 0.50, 0.40]),
        (&rising, &[0.55, 0.60, 0.65, 0.70]),
    ];
    for (rewards, scores) in quiet {
        assert_eq!(optimised(rewards, scores), [], "{scores:?}");
    }
    // The start was the best policy; its reward is that of the first rollout, which it has sampled.
    assert_eq!(optimised(&[1.0, 2.0, 3.0], &[0.45, 0.40, 0.35])[0].step, 2);
}

#[test]
fn what_is_not_finite_is_named_and_an_alarm_that_is_off_is_silent() {
    let values = [1.0, f64::NAN, f64::INFINITY];
    let mut config = AlarmsConfig::default();
    assert_eq!(over(&config, "sft/loss", &values), [("not_finite", 2)]);
    config.not_finite.action = Action::Off;
    assert_eq!(over(&config, "sft/loss", &values), []);
    config.not_finite.action = Action::Gate;
    let found = Alarms::over(&config, &lines("sft/loss", &values));
    let error = found[0].gate();
    assert_eq!(error.exit_code(), 1);
    assert_eq!(
        error.to_string(),
        "alarm not_finite at step 2: sft/loss is not finite"
    );
    assert!(
        error
            .hint_text()
            .unwrap()
            .contains("alarms.not_finite.action=warn")
    );
}

#[test]
fn thresholds_have_ranges() {
    let mut config = AlarmsConfig::default();
    config.validate().unwrap();
    config.length_blow_up.factor = 0.5;
    let error = config.validate().unwrap_err().to_string();
    assert!(
        error.contains("alarms.length_blow_up.factor: 0.5"),
        "{error}"
    );
    config = AlarmsConfig::default();
    config.kl_runaway.above = f64::NAN;
    config.validate().unwrap_err();
}
