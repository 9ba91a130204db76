use crate::common::images::{as_fp32, as_uint8, difference, probabilities, variants};
use crate::common::{Response, Server, Setup};
use crate::machine::{Machine, START, adapters};

pub const INFER: &str = "/v2/models/digits/infer";

/// What the `cpu` adapter answers to each image.
pub fn expected(images: &[Vec<u8>]) -> Vec<Vec<f32>> {
    let server = Setup::cpu().start();
    images.iter().map(|image| probabilities(&server.post(INFER, &as_uint8(image)))).collect()
}

/// Says what is wrong with an answer, if anything.
pub fn compare(response: &Response, expected: &[f32]) -> Result<(), String> {
    if response.status != 200 {
        return Err(format!("status {}: {}", response.status, response.text()));
    }
    match difference(&probabilities(response), expected) {
        found if found <= 1e-4 => Ok(()),
        found => Err(format!("differs by {found}: {}", response.text())),
    }
}

/// Leaves only this adapter on, so that it must answer.
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
    // With all of them off the CPU stands in, without being told.
    ids.iter().for_each(|id| server.set_mode(id, "off"));
    check_adapter(&server, "cpu", &images, &expected);
    // And makes way again.
    server.set_mode(&ids[0], "on");
    server.wait_for_state(&ids[0], &["idle"], START);
    server.wait_for_state("cpu", &["off"], START);
    check_adapter(&server, &ids[0], &images[..2], &expected[..2]);
}
