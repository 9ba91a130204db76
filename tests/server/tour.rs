use serde_json::{Value, json};
use testkit::images::{self, SEVEN, as_fp32, as_uint8, difference, digits, probabilities};
use testkit::{Server, Setup};

const INFER: &str = "/v2/models/digits/infer";

#[test]
fn a_handwritten_seven_is_a_seven() {
    let server = Setup::cpu().start();
    // As `curl -d @examples/seven.json` sends it, immediately after the start.
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let response = server.send("POST", INFER, &form, SEVEN.as_bytes());
    assert_eq!(digits(&response), [7]);
    assert_eq!(response.header("x-concertina-adapter"), Some("cpu"));
    assert_eq!(response.header("content-type"), Some("application/json"));
    let answer = response.json();
    assert_eq!((&answer["model_name"], &answer["model_version"]), (&json!("digits"), &json!("1")));
    assert_eq!(images::output(&answer, "digit")["shape"], json!([1, 1]));
    assert_eq!(images::output(&answer, "probabilities")["shape"], json!([1, 10]));
    let sum: f32 = probabilities(&response).iter().sum();
    assert!((sum - 1.0).abs() < 1e-3, "{sum}");
    let exact = server.post("/v2/models/digits/versions/1/infer", SEVEN);
    assert_eq!(probabilities(&exact), probabilities(&response));
}

#[test]
fn metadata_and_health() {
    let server = Setup::cpu().start();
    assert_eq!(server.get("/v2/health/live").status, 200);
    server.wait_until_ready();
    let about = server.get("/v2").json();
    assert_eq!((&about["name"], &about["version"]), (&json!("concertina"), &json!("0.1.0")));
    assert!(about["extensions"].as_array().unwrap().contains(&json!("binary_tensor_data")));
    for path in ["/v2/models/digits", "/v2/models/digits/versions/1"] {
        let model = server.get(path).json();
        assert_eq!((&model["name"], &model["versions"]), (&json!("digits"), &json!(["1"])));
        let image = json!({"name": "image", "datatype": "FP32", "shape": [-1, 28, 28]});
        assert_eq!(model["inputs"], json!([image]));
        assert_eq!(model["outputs"][0]["name"], "digit");
        assert_eq!(server.get(&format!("{path}/ready")).status, 200);
    }
    // Reading metadata never starts an adapter.
    let cpu = server.adapter("cpu");
    assert_eq!((&cpu["state"], &cpu["starts"]), (&json!("off"), &json!(0)));
    let page = server.get("/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("<html"), "{}", page.text());
    let listed = server.get("/api/adapters").json();
    assert!(listed["adapters"].as_array().unwrap().iter().any(|adapter| adapter["id"] == "cpu"));
}

#[test]
fn pixels_are_accepted_as_bytes_or_numbers() {
    let server = Setup::cpu().start();
    for image in images::variants(6) {
        let bytes = probabilities(&server.post(INFER, &as_uint8(&image)));
        let floats = probabilities(&server.post(INFER, &as_fp32(&image)));
        assert!(difference(&bytes, &floats) < 1e-5, "{bytes:?} {floats:?}");
    }
}

/// Sends a request with raw tensors after the JSON.
fn binary(server: &Server, json: &Value, raw: &[u8]) -> testkit::Response {
    let mut body = json.to_string().into_bytes();
    let length = body.len().to_string();
    body.extend_from_slice(raw);
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    let response = server.send("POST", INFER, &headers, &body);
    assert_eq!(response.status, 200, "{}", response.text());
    response
}

#[test]
fn tensors_are_accepted_and_returned_as_json_or_raw_bytes() {
    let server = Setup::cpu().start();
    let seven = images::seven();
    let expected = probabilities(&server.post(INFER, SEVEN));
    let floats: Vec<u8> = images::floats(&seven).iter().flat_map(|f| f.to_le_bytes()).collect();
    for (datatype, raw) in [("UINT8", seven.clone()), ("FP32", floats)] {
        let input = json!({
            "name": "image", "datatype": datatype, "shape": [1, 28, 28],
            "parameters": {"binary_data_size": raw.len()},
        });
        // Raw in, JSON out.
        let response = binary(&server, &json!({"inputs": [input], "id": "one"}), &raw);
        assert_eq!(response.json()["id"], "one");
        assert!(difference(&probabilities(&response), &expected) < 1e-5);
        // Raw in, raw out.
        let all = json!({"inputs": [input], "parameters": {"binary_data_output": true}});
        check_raw(&binary(&server, &all, &raw), &expected);
    }
    // JSON in, one output raw and one as JSON, in the requested order.
    let mut request: Value = serde_json::from_str(SEVEN).unwrap();
    request["outputs"] = json!([
        {"name": "probabilities", "parameters": {"binary_data": true}}, {"name": "digit"},
    ]);
    let response = server.post(INFER, &request.to_string());
    let (answer, raw) = response.split();
    assert_eq!(answer["outputs"][0]["parameters"]["binary_data_size"], 40);
    assert_eq!(answer["outputs"][1]["data"], json!([7]));
    assert!(difference(&floats_of(raw), &expected) < 1e-6);
}

fn check_raw(response: &testkit::Response, expected: &[f32]) {
    let (answer, raw) = response.split();
    let sizes = [&answer["outputs"][0], &answer["outputs"][1]]
        .map(|output| output["parameters"]["binary_data_size"].as_u64().unwrap());
    assert_eq!(sizes, [8, 40]);
    assert!(answer["outputs"][0].get("data").is_none());
    let (digit, probabilities) = raw.split_at(8);
    assert_eq!(i64::from_le_bytes(digit.try_into().unwrap()), 7);
    assert!(difference(&floats_of(probabilities), expected) < 1e-5);
}

fn floats_of(raw: &[u8]) -> Vec<f32> {
    raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn several_rows_are_answered_in_order() {
    let server = Setup::cpu().start();
    let images = images::variants(8);
    let single = |image: &Vec<u8>| probabilities(&server.post(INFER, &as_uint8(image)));
    let singles: Vec<f32> = images.iter().flat_map(single).collect();
    for rows in [1, 2, 3, 5, 8] {
        let pixels: Vec<u8> = images[..rows].concat();
        let input =
            json!({"name": "image", "datatype": "UINT8", "shape": [rows, 28, 28], "data": pixels});
        let response = server.post(INFER, &json!({ "inputs": [input] }).to_string());
        assert_eq!(digits(&response).len(), rows);
        let found = difference(&probabilities(&response), &singles[..rows * 10]);
        assert!(found < 1e-5, "{rows} rows differ by {found} from the same rows one by one");
    }
}
