use crate::machine::{Machine, START, TUNING, adapters};
use serde_json::Value;
use testkit::images::{as_fp32, as_uint8, difference, probabilities, variants};
use testkit::{Response, Server, Setup, models::package, wait_for};

pub const INFER: &str = "/v2/models/digits/infer";

/// The answers of the `cpu` adapter to the images.
pub fn expected(images: &[Vec<u8>]) -> Vec<Vec<f32>> {
    let server = Setup::cpu().start();
    images.iter().map(|image| probabilities(&server.post(INFER, &as_uint8(image)))).collect()
}

/// Returns an error if an answer differs from the expected one.
pub fn compare(response: &Response, expected: &[f32]) -> Result<(), String> {
    if response.status != 200 {
        return Err(format!("status {}: {}", response.status, response.text()));
    }
    match difference(&probabilities(response), expected) {
        found if found <= 1e-4 => Ok(()),
        found => Err(format!("differs by {found}: {}", response.text())),
    }
}

/// Leaves only this adapter on, so that it has to answer.
fn only(server: &Server, all: &[String], id: &str) {
    for other in all {
        server.set_mode(other, if other == id { "on" } else { "off" });
    }
    server.wait_for_state(id, &["idle"], START);
}

#[track_caller]
fn check_adapter(server: &Server, id: &str, images: &[Vec<u8>], expected: &[Vec<f32>]) {
    let mut worst = 0.0f32;
    for (image, expected) in images.iter().zip(expected) {
        for body in [as_uint8(image), as_fp32(image)] {
            let response = server.post(INFER, &body);
            assert_eq!(response.header("x-concertina-adapter"), Some(id), "{}", response.text());
            worst = worst.max(difference(&probabilities(&response), expected));
        }
    }
    eprintln!("{id}: {} images as UINT8 and FP32, off by {worst:e} at most", images.len());
    assert!(worst <= 1e-4, "{id} differs by {worst} from the CPU");
}

#[test]
fn every_adapter_answers_as_the_cpu_does() {
    let Some(machine) = Machine::get() else { return };
    let images = variants(8);
    let expected = expected(&images);
    let server = machine.setup().start();
    let ids = adapters(&server);
    let vendors = |id: &String| server.adapter(id)["vendor"].as_str().map(str::to_owned);
    let mut vendors: Vec<_> = ids.iter().map(vendors).collect();
    vendors.sort();
    vendors.dedup();
    assert_eq!(vendors.len(), 2, "{vendors:?}");
    for id in &ids {
        only(&server, &ids, id);
        check_adapter(&server, id, &images, &expected);
    }
    // With all of them off the CPU fallback answers in mode `auto`.
    ids.iter().for_each(|id| server.set_mode(id, "off"));
    check_adapter(&server, "cpu", &images, &expected);
    // The CPU fallback ends when another adapter is on.
    server.set_mode(&ids[0], "on");
    server.wait_for_state(&ids[0], &["idle"], START);
    server.wait_for_state("cpu", &["off"], START);
    check_adapter(&server, &ids[0], &images[..2], &expected[..2]);
}

/// The answers of a server to the example page: the text from `ocr`, and the type of its bytes from
/// `filetype`.
fn page(server: &Server, adapter: &str) -> [Value; 2] {
    let page = std::fs::read(package().join("examples/page.png")).unwrap();
    let headers = [("content-type", "application/octet-stream")];
    ["ocr", "filetype"].map(|model| {
        let answer = server.send("POST", &format!("/v2/models/{model}/infer"), &headers, &page);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-concertina-adapter"), Some(adapter), "{}", answer.text());
        let outputs = answer.json()["outputs"].as_array().unwrap().clone();
        let of = |name| outputs.iter().find(|output| output["name"] == name);
        of("text").or(of("label")).unwrap()["data"].clone()
    })
}

#[test]
fn adapter_reads_a_page_as_the_cpu_does() {
    let Some(machine) = Machine::get() else { return };
    let expected = page(&Setup::cpu().start(), "cpu");
    let server = machine.embedded().start();
    let ids = adapters(&server);
    only(&server, &ids, &ids[0]);
    wait_for("its four models are loaded", TUNING, || {
        let adapter = server.adapter(&ids[0]);
        let replicas = adapter["replicas"].as_array().unwrap();
        replicas.iter().filter(|replica| replica["loaded"] == true).count() == 4
    });
    assert_eq!(page(&server, &ids[0]), expected);
}
