//! Certificates and keys as files.

use super::*;
use rcgen::{CertificateParams, KeyPair};
use std::path::PathBuf;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("concertina-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A certificate for `localhost` in PEM, and its key.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn a_certificate_and_its_key_are_read() {
    let folder = Folder::new("tls-good");
    let (certificate, key) = pair();
    let (more, _) = pair();
    // Other text in the file is ignored.
    let chain = format!("for localhost\n{certificate}\nits authority\n{more}");
    let chain = folder.write("c.pem", &chain);
    let config = read(&chain, &folder.write("k.pem", &key)).unwrap();
    assert_eq!(config.alpn_protocols, [b"http/1.1"]);
    assert_eq!(read_certificates(&chain).unwrap().len(), 2);
}

#[test]
fn errors_contain_the_file_and_the_cause() {
    let folder = Folder::new("tls-bad");
    let (certificate, key) = pair();
    let (_, other) = pair();
    let spoilt = certificate.replacen("MII", "M?I", 1);
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (certificate, key, words) in [
        ("", key.as_str(), "c.pem contains no certificate"),
        (&key, &key, "c.pem contains no certificate"),
        (&spoilt, &key, "in the certificate"),
        (nonsense, &key, "failed to use the certificate"),
        (&certificate, "", "k.pem contains no private key"),
        (&certificate, &certificate, "k.pem contains no private key"),
        (&certificate, &locked, "without a passphrase"),
        (&certificate, &other, "k.pem does not belong to the first certificate of"),
    ] {
        let (certificate, key) = (folder.write("c.pem", certificate), folder.write("k.pem", key));
        let error = format!("{:#}", read(&certificate, &key).unwrap_err());
        assert!(error.contains(words), "'{error}' does not contain '{words}'");
    }
    let missing = folder.0.join("missing.pem");
    for (certificate, key) in [(&missing, &folder.0.join("k.pem")), (&folder.0, &missing)] {
        let error = format!("{:#}", read(certificate, key).unwrap_err());
        assert!(error.contains("failed to read the certificate"), "{error}");
    }
}

#[test]
fn invalid_dates_are_reported() {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let at = |days: u64| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(days * 86_400));
        wrong_date(certificate.der(), time)
    };
    // 2020 begins 18 262 days after 1970.
    assert_eq!(at(18_261).unwrap(), "is not valid before 2020-01-01T00:00:00Z");
    assert_eq!(at(18_300), None);
    assert_eq!(at(18_262 + 367).unwrap(), "has expired at 2021-01-01T00:00:00Z");
}
