use serde_json::{Value, json};
use std::time::Duration;
use testkit::http::request;
use testkit::{Folder, Server, Setup, models};

/// Two elements of each datatype: as JSON, and as raw bytes of the protocol.
fn samples() -> Vec<(&'static str, Value, Vec<u8>)> {
    let half = |bits: [u16; 2]| bits.map(u16::to_le_bytes).concat();
    let text = ["", "é\"\\\n"].map(str::as_bytes);
    let elements = text.map(|s| [&u32::try_from(s.len()).unwrap().to_le_bytes()[..], s].concat());
    vec![
        ("BOOL", json!([true, false]), vec![1, 0]),
        ("UINT8", json!([0, 255]), vec![0, 255]),
        ("UINT16", json!([1, 65535]), [1, u16::MAX].map(u16::to_le_bytes).concat()),
        ("UINT32", json!([1, u32::MAX]), [1, u32::MAX].map(u32::to_le_bytes).concat()),
        ("UINT64", json!([1, u64::MAX]), [1, u64::MAX].map(u64::to_le_bytes).concat()),
        ("INT8", json!([-128, 127]), [i8::MIN, i8::MAX].map(i8::to_le_bytes).concat()),
        ("INT16", json!([i16::MIN, 3]), [i16::MIN, 3].map(i16::to_le_bytes).concat()),
        ("INT32", json!([i32::MIN, 3]), [i32::MIN, 3].map(i32::to_le_bytes).concat()),
        ("INT64", json!([i64::MIN, i64::MAX]), [i64::MIN, i64::MAX].map(i64::to_le_bytes).concat()),
        ("FP16", json!([1.5, -0.25]), half([0x3e00, 0xb400])),
        ("BF16", json!([1.5, -0.25]), half([0x3fc0, 0xbe80])),
        ("FP32", json!([0.1f32, -3.0e38f32]), [0.1, -3.0e38].map(f32::to_le_bytes).concat()),
        ("FP64", json!([0.1, 1e300]), [0.1, 1e300].map(f64::to_le_bytes).concat()),
        ("BYTES", json!(["", "é\"\\\n"]), elements.concat()),
    ]
}

fn echo_server(max_rows: usize, delay: &str) -> (Server, Folder) {
    let repository = Folder::new();
    models::add_echo(&repository, "echo", max_rows, delay);
    (Setup::cpu().models(repository.path()).start(), repository)
}

#[test]
fn every_datatype_is_returned_unchanged_in_every_encoding() {
    let (server, _repository) = echo_server(4, "0s");
    let samples = samples();
    let tested: Vec<_> = samples.iter().map(|(datatype, ..)| *datatype).collect();
    assert_eq!(tested, models::DATATYPES);
    for (datatype, data, raw) in samples {
        for raw_in in [false, true] {
            for raw_out in [false, true] {
                check_way(&server, datatype, (&data, &raw), (raw_in, raw_out));
            }
        }
    }
}

/// Sends two rows of one element, and checks the answer in each encoding.
fn check_way(
    server: &Server,
    datatype: &str,
    (data, raw): (&Value, &[u8]),
    (raw_in, raw_out): (bool, bool),
) {
    let way = format!("{datatype}, raw in: {raw_in}, raw out: {raw_out}");
    let mut input = json!({"name": "x", "datatype": datatype, "shape": [2, 1]});
    if raw_in {
        input["parameters"] = json!({"binary_data_size": raw.len()});
    } else {
        input["data"] = data.clone();
    }
    let parameters = json!({"binary_data_output": raw_out});
    let mut body = json!({"inputs": [input], "parameters": parameters}).to_string().into_bytes();
    let length = body.len().to_string();
    let mut headers = Vec::new();
    if raw_in {
        headers.push(("Inference-Header-Content-Length", length.as_str()));
        body.extend_from_slice(raw);
    }
    let response = server.send("POST", "/v2/models/echo/infer", &headers, &body);
    assert_eq!(response.status, 200, "{way}: {}", response.text());
    let (answer, tail) = if raw_out { response.split() } else { (response.json(), &[][..]) };
    let output = &answer["outputs"][0];
    assert_eq!((&output["name"], &output["datatype"]), (&json!("y"), &json!(datatype)), "{way}");
    assert_eq!(output["shape"], json!([2, 1]), "{way}");
    if raw_out {
        assert_eq!(tail, raw, "{way}");
    } else if datatype == "FP32" {
        let floats = |v: &Value| [0, 1].map(|at| v[at].as_f64().unwrap() as f32);
        assert_eq!(floats(&output["data"]), floats(data), "{way}");
    } else {
        assert_eq!(&output["data"], data, "{way}");
    }
}

/// A BYTES element that is not UTF-8.
const NO_TEXT: &[u8] = b"\x02\0\0\0\xff\xfe";

#[test]
fn bytes_that_are_not_utf8_are_rejected_as_json_and_returned_as_binary() {
    let (server, _repository) = echo_server(4, "0s");
    let send = |raw_out: bool| {
        let mut body = json!({
            "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1, 1],
                        "parameters": {"binary_data_size": NO_TEXT.len()}}],
            "parameters": {"binary_data_output": raw_out},
        })
        .to_string()
        .into_bytes();
        let length = body.len().to_string();
        body.extend_from_slice(NO_TEXT);
        let headers = [("Inference-Header-Content-Length", length.as_str())];
        server.send("POST", "/v2/models/echo/infer", &headers, &body)
    };
    assert_eq!(send(true).split().1, NO_TEXT);
    let refused = send(false);
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.error().contains("request binary output"), "{}", refused.error());
}

const CLIENTS: u64 = 32;
const REQUESTS: u64 = 12;

/// A request of `rows` rows that no other client sends, and the expected data of the answer.
fn payload(client: u64, number: u64, rows: u64) -> (Vec<u8>, Value) {
    // Lengths differ too, so that requests of different shapes meet in the queue.
    let width = 1 + client % 3;
    let data: Vec<u64> = (0..rows * width).map(|at| client << 32 | number << 16 | at).collect();
    let input = json!({"name": "x", "datatype": "UINT64", "shape": [rows, width], "data": data});
    let body = json!({"inputs": [input], "id": format!("{client}-{number}")}).to_string();
    (request("POST", "/v2/models/echo/infer", &[], body.as_bytes()), json!(data))
}

#[test]
fn requests_share_batches_and_each_gets_its_own_answer() {
    let (server, _repository) = echo_server(16, "5ms");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || {
                let mut connection = server.connect();
                for number in 0..REQUESTS {
                    let (request, data) = payload(client, number, 1 + (client + number) % 3);
                    let response = connection.exchange(&request).unwrap();
                    assert_eq!(response.status, 200, "{}", response.text());
                    let answer = response.json();
                    assert_eq!(answer["id"], format!("{client}-{number}"));
                    assert_eq!(answer["outputs"][0]["data"], data);
                }
            });
        }
    });
    let rows: u64 =
        (0..CLIENTS).flat_map(|client| (0..REQUESTS).map(move |n| 1 + (client + n) % 3)).sum();
    let counted = testkit::wait_until("all are counted", Duration::from_secs(10), || {
        let cpu = server.adapter("cpu");
        (cpu["requests"] == CLIENTS * REQUESTS).then_some(cpu)
    });
    assert_eq!(counted["rows"], rows);
    let batches = counted["batches"].as_u64().unwrap();
    assert!(batches < CLIENTS * REQUESTS / 2, "{batches} batches: hardly any was shared");
    assert_eq!(server.snapshot()["models"][0]["requests"], CLIENTS * REQUESTS);
}

#[test]
fn large_tensors_are_returned_complete() {
    let (server, _repository) = echo_server(4, "0s");
    // Several pieces on the wire, the last of which is not full.
    let raw: Vec<u8> = (0..3_000_001u32).map(|at| (at * 2_654_435_761) as u8).collect();
    let mut body = json!({
        "inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, raw.len()],
                    "parameters": {"binary_data_size": raw.len()}}],
        "parameters": {"binary_data_output": true},
    })
    .to_string()
    .into_bytes();
    let length = body.len().to_string();
    body.extend_from_slice(&raw);
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    let response = server.send("POST", "/v2/models/echo/infer", &headers, &body);
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.split().1 == raw, "the bytes differ");
}
