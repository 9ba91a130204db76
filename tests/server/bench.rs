use serde_json::Value;
use testkit::{Setup, run};

/// Two steps of five seconds, the shortest that the load generator accepts.
#[test]
fn bench_measures_a_model_in_steps() {
    let server = Setup::cpu().start();
    let url = format!("--url=http://{}", server.address);
    let output = run(&["bench", "digits", "--concurrency=1,4", "--json", &url], &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let steps: Vec<Value> = serde_json::from_str(&text).expect(&text);
    let concurrency: Vec<_> = steps.iter().map(|step| step["concurrency"].as_u64()).collect();
    assert_eq!(concurrency, [Some(1), Some(4)]);
    for step in &steps {
        assert_eq!((&step["failed"], &step["adapters_on_max"]), (&Value::from(0), &Value::from(1)));
        for name in ["rows_per_s", "p50_ms", "p99_ms", "joules", "joules_per_row"] {
            assert!(step[name].as_f64().unwrap() >= 0.0, "{name} of {step}");
        }
        assert!(step["rows_per_s"].as_f64().unwrap() > 1.0, "{step}");
    }
}

#[test]
fn bench_reports_why_a_model_cannot_be_measured() {
    let server = Setup::cpu().start();
    let url = format!("--url=http://{}", server.address);
    for (arguments, reason) in [
        (["bench", "nothing", &url], "nothing"),
        (["bench", "ocr", &url], "chain of models"),
        (["bench", "digits", "--url=http://127.0.0.1:1"], "127.0.0.1:1"),
    ] {
        let output = run(&arguments, &[]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(reason), "{arguments:?}: {errors}");
        assert_eq!(output.status.code(), Some(1));
    }
}
