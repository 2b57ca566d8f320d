use super::*;

const MILLION: u64 = 1_000_000;

fn usage(input: u64, output: u64) -> Usage {
    Usage {
        input,
        output,
        ..Usage::default()
    }
}

fn table(text: &str) -> Prices {
    Prices {
        tables: vec![parse(text, "test").unwrap()],
    }
}

#[test]
fn the_built_in_table_parses_and_knows_the_models_of_today() {
    let prices = Prices::load(None).unwrap();
    for (model, dollars) in [
        ("claude-haiku-5-5", 0.60),
        ("claude-haiku-5-5-20261007", 0.60),
        ("claude-sonnet-5-5", 12.0),
        ("claude-opus-5-5", 24.0),
        ("claude-fable-5-2", 48.0),
        ("claude-fable-5-1", 60.0),
        ("claude-opus-5", 30.0),
        ("claude-sonnet-5", 12.0),
        ("claude-haiku-4-5-20251001", 6.0),
    ] {
        let price = prices.of(model, "2026-11-27T12:00:00Z").unwrap();
        let cost = price.of(usage(100_000, 100_000), false);
        assert_eq!(cost, Usd::from_dollars(dollars / 10.0), "{model}");
    }
}

#[test]
fn a_model_or_a_day_that_is_not_known_has_no_price() {
    let prices = Prices::load(None).unwrap();
    assert!(prices.of("claude-opus-5-9", "2026-11-27").is_none());
    assert!(prices.of("claude-haiku-5-5", "2026-10-06").is_none());
    assert!(prices.of("gpt-7", "2026-11-27").is_none());
}

#[test]
fn long_prompts_batches_and_the_cache_have_their_prices() {
    let prices = Prices::load(None).unwrap();
    let haiku = prices.of("claude-haiku-5-5", "2026-11-27").unwrap();
    let cost = |usage, batch| haiku.of(usage, batch);
    assert_eq!(cost(usage(100_000, 0), false), Usd::from_dollars(0.01));
    assert_eq!(cost(usage(MILLION, 0), false), Usd::from_dollars(0.50));
    assert_eq!(cost(usage(0, MILLION), true), Usd::from_dollars(0.25));
    let cached = Usage {
        input: 30,
        cache_read: 10,
        cache_write: 10,
        output: 0,
    };
    // 10 plain at 0.10, 10 read at 0.01, 10 written at 0.125, per million.
    assert_eq!(
        cost(cached, false),
        Usd::from_pico(1_000_000 + 100_000 + 1_250_000)
    );
}

#[test]
fn the_most_that_a_request_can_cost_is_no_less_than_what_it_costs() {
    let prices = Prices::load(None).unwrap();
    let haiku = prices.of("claude-haiku-5-5", "2026-11-27").unwrap();
    for input in [0, 10, 100_000, 100_001, MILLION] {
        for cache_write in [0, input / 2, input] {
            let usage = Usage {
                input,
                cache_write,
                cache_read: 0,
                output: 7,
            };
            assert!(haiku.at_most(input, 7, false) >= haiku.of(usage, false));
        }
    }
}

#[test]
fn the_closest_name_counts_then_the_latest_day() {
    let prices = table(
        r#"
        price = [
            { models = ["*"], from = "2026-01-01", input = 1, output = 0 },
            { models = ["local-*"], from = "2026-01-01", input = 2, output = 0 },
            { models = ["local-*"], from = "2026-06-01", input = 3, output = 0 },
        ]"#,
    );
    let input = |model: &str, day: &str| prices.of(model, day).unwrap().input;
    assert_eq!(input("other", "2026-12-01"), 1.0);
    assert_eq!(input("local-7b", "2026-05-31"), 2.0);
    assert_eq!(input("local-7b", "2026-06-01"), 3.0);
}

#[test]
fn a_users_price_goes_before_the_built_in_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prices.toml");
    fs::write(
        &path,
        "[[price]]\nmodels = [\"claude-*\"]\nfrom = \"2026-01-01\"\ninput = 0\noutput = 0\n",
    )
    .unwrap();
    let prices = Prices::load(path.to_str()).unwrap();
    let price = prices.of("claude-opus-5-5", "2026-11-27").unwrap();
    assert_eq!(price.of(usage(MILLION, MILLION), false), Usd::ZERO);
}

#[test]
fn what_is_no_price_is_refused_by_name() {
    for (text, expected) in [
        (
            "[[price]]\nmodels = [\"m\"]\nfrom = \"May\"\ninput = 0\noutput = 0",
            "YYYY-MM-DD",
        ),
        (
            "[[price]]\nmodels = [\"m\"]\nfrom = \"2026-01-01\"\ninput = -1\noutput = 0",
            "-1 is no price",
        ),
        ("[[price]]\nmodel = \"m\"", "unknown field"),
    ] {
        let error = parse(text, "mine.toml").unwrap_err();
        assert!(error.message.contains(expected), "{error}");
        assert!(error.message.starts_with("mine.toml"), "{error}");
    }
}
