//! What would be asked of servers, in words: a table, the money, and how far the budgets reach.

use finegrain_sdk::forecast::Bounds;

use super::{ServerPlan, Servers};
use crate::report::tables::{paragraphs, ruled};

/// A line a plugin in `width` columns, and sentences; empty where nobody asks a server.
pub fn table(servers: &Servers, width: u16) -> String {
    if servers.plugins.is_empty() {
        return String::new();
    }
    let rows = servers.plugins.iter().map(|plan| {
        let asks = asks(plan);
        let calls = short(plan.calls);
        let Some(forecast) = &plan.forecast else {
            let unknown = || "unknown".to_owned();
            return [
                asks,
                String::new(),
                calls,
                unknown(),
                unknown(),
                unknown(),
                unknown(),
                unknown(),
            ];
        };
        [
            asks,
            forecast.model.clone(),
            calls,
            short(forecast.kept),
            counts(forecast.requests),
            counts(forecast.input_tokens),
            counts(forecast.output_tokens),
            forecast.usd.map_or_else(|| "unknown".to_owned(), money),
        ]
    });
    let header = [
        "Asks a server",
        "Model",
        "Calls",
        "Kept",
        "Requests",
        "Tokens in",
        "Tokens out",
        "USD",
    ];
    let table = ruled(&header, rows, width, 1, |at| at >= 2);
    let mut sentences = vec![match servers.usd {
        Some(usd) => format!("Servers: {} USD.", money(usd)),
        None => format!(
            "Servers: unknown, {} USD without what is not known.",
            money(known(servers))
        ),
    }];
    sentences.extend(servers.plugins.iter().filter_map(unknown));
    sentences.extend(servers.plugins.iter().filter_map(budget));
    sentences.push(
        "From one question a row with a short answer, to every try with the longest answer; texts that are not written yet \
         count from a word to the most tokens that a sample may have. Kept answers are not asked for again."
            .to_owned(),
    );
    format!("\n{table}\n\n{}\n", paragraphs(&sentences, width))
}

/// Who asks, and what for: `annotator claude`.
fn asks(plan: &ServerPlan) -> String {
    let name = plan.plugin.split('/').next_back().unwrap_or_default();
    format!("{} {name}", plan.role)
}

/// The sum of what is known.
fn known(servers: &Servers) -> Bounds<f64> {
    let known = servers
        .plugins
        .iter()
        .filter_map(|plan| plan.forecast.as_ref()?.usd);
    known.fold(Bounds::default(), Bounds::plus)
}

/// Why a cost is not known.
fn unknown(plan: &ServerPlan) -> Option<String> {
    match &plan.forecast {
        None => Some(format!(
            "{}: unknown, for the plugin tells nothing before it asks.",
            plan.plugin
        )),
        Some(forecast) if forecast.usd.is_none() => Some(format!(
            "{}: unknown: no price for {}; its option `prices` names a file with one.",
            plan.plugin, forecast.model
        )),
        Some(_) => None,
    }
}

/// How far a budget reaches.
fn budget(plan: &ServerPlan) -> Option<String> {
    let budget = plan.forecast.as_ref()?.budget_usd?;
    let dearest = plan.dearest_call_usd?;
    let reaches = if budget >= dearest.to {
        "is enough for the most that a call may cost"
    } else if budget >= dearest.from {
        "may end a call before its rows"
    } else {
        "does not reach"
    };
    Some(format!(
        "{}: budget_usd = {budget} {reaches}: the dearest call costs {}, what is kept of it included.",
        asks(plan),
        money(dearest)
    ))
}

/// `40–80`, or one figure where both are alike.
fn range<T: PartialEq>(bounds: Bounds<T>, show: impl Fn(T) -> String) -> String {
    if bounds.from == bounds.to {
        return show(bounds.from);
    }
    format!("{}–{}", show(bounds.from), show(bounds.to))
}

fn counts(bounds: Bounds<u64>) -> String {
    range(bounds, short)
}

/// `0.012–3.40`.
fn money(bounds: Bounds<f64>) -> String {
    range(bounds, |usd| match usd {
        0.0 | 0.0995.. => format!("{usd:.2}"),
        0.00095.. => format!("{usd:.3}"),
        _ => format!("{usd:.6}"),
    })
}

/// A count in three figures or four: `980`, `9800`, `12k`, `3.4M`.
fn short(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..999_500 => format!("{:.0}k", count as f64 / 1e3),
        999_500..10_000_000 => format!("{:.1}M", count as f64 / 1e6),
        10_000_000..999_500_000 => format!("{:.0}M", count as f64 / 1e6),
        _ => format!("{:.1}G", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use finegrain_sdk::Forecast;

    use super::*;

    fn plan(usd: Option<Bounds<f64>>, budget_usd: Option<f64>) -> ServerPlan {
        ServerPlan {
            role: "editor",
            plugin: "editor/claude".into(),
            calls: 2,
            dearest_call_usd: usd,
            forecast: Some(Forecast {
                model: "claude-sonnet-5-5-20261007".into(),
                kept: 12,
                requests: Bounds {
                    from: 999_999,
                    to: 9_999_999,
                },
                input_tokens: Bounds {
                    from: 123_456,
                    to: 999_999_999,
                },
                output_tokens: Bounds {
                    from: 123_456,
                    to: 999_999_999,
                },
                usd,
                budget_usd,
                ..Forecast::default()
            }),
        }
    }

    fn servers(plugins: Vec<ServerPlan>, usd: Option<Bounds<f64>>) -> String {
        table(&Servers { plugins, usd }, 100)
    }

    #[test]
    fn the_widest_figures_fit_a_hundred_columns() {
        let usd = Some(Bounds {
            from: 1234.5,
            to: 123_456.7,
        });
        let text = servers(vec![plan(usd, Some(10.0))], usd);
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        assert!(text.contains("Servers: 1234.50–123456.70 USD."), "{text}");
        assert_eq!(servers(Vec::new(), None), "");
    }

    #[test]
    fn a_cost_that_is_not_known_is_never_nothing() {
        let some = Some(Bounds { from: 0.5, to: 1.0 });
        let silent = ServerPlan {
            forecast: None,
            ..plan(None, None)
        };
        let text = servers(vec![plan(some, None), plan(None, None), silent], None);
        assert!(text.contains("Servers: unknown, 0.50–1.00 USD without what is not known."));
        assert!(
            text.contains("unknown: no price for claude-sonnet-5-5-20261007"),
            "{text}"
        );
        assert!(text.contains("the plugin tells nothing"), "{text}");
    }

    #[test]
    fn a_budget_is_enough_may_end_the_call_or_does_not_reach() {
        let some = Some(Bounds { from: 0.5, to: 1.0 });
        for (budget, words) in [
            (1.0, "is enough"),
            (0.7, "may end a call"),
            (0.1, "does not reach"),
        ] {
            let text = servers(vec![plan(some, Some(budget))], some);
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn figures_are_short() {
        let shown: Vec<String> = [0, 9999, 10_000, 999_999, 12_345_678, 5_000_000_000]
            .map(short)
            .into();
        assert_eq!(shown, ["0", "9999", "10k", "1.0M", "12M", "5.0G"]);
        let bounds = |from, to| money(Bounds { from, to });
        assert_eq!(bounds(0.0, 0.0), "0.00");
        assert_eq!(bounds(0.000_012, 0.0123), "0.000012–0.012");
    }
}
