//! New models that take long to load delay neither requests nor other new models.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::images::SEVEN;
use testkit::{Folder, HANG, Server, Setup, models, wait_for};

/// The number of small new models.
const GOOD: usize = 8;

fn is_ready(server: &Server, name: &str) -> bool {
    server.get(&format!("/v2/models/{name}/ready")).status == 200
}

fn data(name: &str) -> Vec<u8> {
    std::fs::read(models::package().join("tests/data").join(name)).unwrap()
}

fn infer(server: &Server) {
    let answer = server.post("/v2/models/digits/infer", SEVEN);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The longest time of an answer of `digits` until `is_over`.
fn longest(server: &Server, is_over: impl Fn() -> bool) -> Duration {
    let mut longest = Duration::ZERO;
    while !is_over() {
        let begin = Instant::now();
        infer(server);
        longest = longest.max(begin.elapsed());
    }
    longest
}

/// One file takes seconds and much memory to load, the other half a minute or more. Until the load
/// of the second is aborted, `digits` and the small models that were added with them are served.
#[test]
fn new_model_with_a_long_load_delays_no_other_model() {
    let repository = Folder::new();
    models::add_digits(&repository, "digits");
    let config = "[workers]\nvalidation_timeout = \"6s\"\n";
    let setup = Setup::cpu().models(repository.path()).config(config);
    let server = setup.args(&["--models-poll-interval", "100ms"]).start();
    infer(&server);
    let begin = Instant::now();
    for name in ["slow_tile", "slow_constant"] {
        repository.write(&format!("{name}.onnx"), data(&format!("{name}.onnx")));
    }
    for number in 0..GOOD {
        repository.write(&format!("good{number}.onnx"), data("linear.onnx"));
    }
    let over = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        let client = scope.spawn(|| longest(&server, || over.load(Ordering::Relaxed)));
        let good = || (0..GOOD).all(|number| is_ready(&server, &format!("good{number}")));
        wait_for("the small models", HANG, good);
        // They have not waited for the slow model.
        assert!(!server.log().contains("workers.validation_timeout"), "{}", server.log());
        let given_up = || server.log().contains("'slow_tile' cannot be loaded");
        wait_for("the end of its time", HANG, given_up);
        over.store(true, Ordering::Relaxed);
        client.join().unwrap()
    });
    // Without validation in a process of its own, one request waited for the whole load.
    assert!(longest < begin.elapsed() / 4, "{longest:?} of {:?}", begin.elapsed());
    let refused = server.get("/v2/models/slow_tile/ready");
    let error = refused.error();
    assert!(error.contains("workers.validation_timeout") || error.contains("memory"), "{error}");
}

#[test]
fn model_with_a_long_load_is_served_if_the_load_ends_in_time() {
    let repository = Folder::new();
    models::add_digits(&repository, "digits");
    let server =
        Setup::cpu().models(repository.path()).args(&["--models-poll-interval", "100ms"]).start();
    repository.write("constant.onnx", data("slow_constant.onnx"));
    wait_for("the model", HANG, || is_ready(&server, "constant"));
    let input = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}"#;
    let answer = server.post("/v2/models/constant/infer", input);
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The sum of 400 million numbers that are 1e-9.
    let sum = answer.json()["outputs"][0]["data"][0].as_f64().unwrap() - 1.0;
    assert!((sum - 0.4).abs() < 0.01, "{sum}");
}
