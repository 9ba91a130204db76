//! Settings of TLS.

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The server's certificate and its key; with them it accepts only HTTPS. Both files are read again
/// when one changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file: the server's certificate, then the intermediate certificates up to its authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file: the certificate's private key, without a passphrase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl Tls {
    /// Returns the files of certificate and key, if TLS is enabled.
    pub fn files(&self) -> Option<(PathBuf, PathBuf)> {
        self.certificate.clone().zip(self.key.clone())
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        let (certificate, key) = (self.certificate.is_some(), self.key.is_some());
        ensure!(certificate || !key, "tls.key is set, but tls.certificate is not: TLS needs both");
        ensure!(key || !certificate, "tls.certificate is set, but tls.key is not: TLS needs both");
        Ok(())
    }
}
