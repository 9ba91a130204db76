//! The best other settings of a running server, and the line that applies them.

use super::client::{Comparison, ServerClient};
use super::text::clean;
use super::{Credentials, connect};
use anyhow::{Context, bail};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Interval and number of requests while the server computes the comparison.
const INTERVAL: Duration = Duration::from_millis(500);
const TIMES: usize = 240;

/// Returns the best alternative to the settings of a server, with the command that applies it.
///
/// # Errors
/// If the server cannot be reached, or does not finish its comparison.
pub fn advice(url: &str, key: Credentials<'_>, ca: Option<&Path>) -> anyhow::Result<String> {
    let client = connect(url, key, ca)?;
    for _ in 0..TIMES {
        let comparison = client.comparison();
        let comparison = comparison
            .with_context(|| format!("failed to request the comparison from {}", client.place()))?;
        if comparison.state == "ready" {
            return Ok(text(&comparison, &client));
        }
        thread::sleep(INTERVAL);
    }
    bail!("{} did not finish its comparison of settings; see /api/whatif there", client.place())
}

fn text(comparison: &Comparison, client: &ServerClient) -> String {
    let (now, best) = (comparison.cases.first(), comparison.best());
    let (Some(now), Some((best, setting))) = (now, best) else {
        return "No other setting is better for these requests.\n".to_owned();
    };
    let figures = |share: f64, energy: f64| format!("{:.2} %, {energy:.2} Wh", share * 100.0);
    let header =
        if client.has_key() { " -H \"authorization: Bearer $CONCERTINA_API_KEY\"" } else { "" };
    let body = serde_json::json!({ "setting": setting }).to_string();
    format!(
        "Best other setting for these requests: {} ({} in place of {}). Apply it with\n  \
         curl -X POST -H 'content-type: application/json'{header} -d {} {}\n\
         and keep it with this line of the configuration file:\n  {}\n",
        clean(&best.what),
        figures(best.attainment, best.watt_hours),
        figures(now.attainment, now.watt_hours),
        quoted(&body),
        quoted(&client.address_of(&["api", "settings"])),
        clean(setting),
    )
}

/// Quotes a word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", clean(text).replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn advice_for(url: &str, key: Option<&str>, best: Value, setting: &str) -> String {
        let case = |what: &str, setting: Option<&str>| json!({ "what": what, "setting": setting, "attainment": 0.5, "watt_hours": 2.0 });
        let cases = [case("with the present settings", None), case("other\u{1b}", Some(setting))];
        let answer = json!({ "state": "ready", "best": best, "cases": cases });
        text(&serde_json::from_value(answer).unwrap(), &ServerClient::new(url, key, None).unwrap())
    }

    #[test]
    fn the_command_contains_the_setting_and_the_key_by_its_variable() {
        let url = "http://name:word@127.0.0.1:8000/box/";
        let text = advice_for(url, Some("secret"), json!(1), "latency_target = \"1s\"");
        let expected = "curl -X POST -H 'content-type: application/json' \
            -H \"authorization: Bearer $CONCERTINA_API_KEY\" -d '{\"setting\":\"latency_target = \\\"1s\\\"\"}' \
            'http://127.0.0.1:8000/box/api/settings'\n";
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("secret") && !text.contains("word@"), "{text}");
        assert!(text.contains("(50.00 %, 2.00 Wh in place of 50.00 %, 2.00 Wh)"), "{text}");
    }

    #[test]
    fn a_setting_of_a_hostile_server_remains_one_word_of_the_shell() {
        let text = advice_for("http://127.0.0.1:8000", None, json!(1), "'; reboot #\u{1b}[2J");
        assert!(text.contains(r"'{"), "{text}");
        assert!(text.contains(r"'\''; reboot #"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("authorization"), "{text}");
    }

    #[test]
    fn without_a_better_setting_the_advice_has_no_command() {
        for best in [json!(null), json!(7)] {
            let text = advice_for("http://127.0.0.1:8000", None, best, "latency_target = \"1s\"");
            assert_eq!(text, "No other setting is better for these requests.\n");
        }
    }
}
