//! The link to a worker, local or remote, over any pair of byte streams that `wire` supports.

use crate::workers::model_files::{FILES_MAX, OfferedFiles};
use crate::workers::worker_report::{Reporter, WorkerEvent};
use anyhow::bail;
use std::time::Duration;
use tokio::sync::mpsc;
use wire::server::{Listener, Outgoing, ServerReceiver, ServerSender};
use wire::{FilesRequest, FromWorker, ToWorker, VERSION, WireError};

/// The link to one worker.
pub(crate) struct Link {
    pub(crate) listener: Listener,
    pub(crate) token: String,
    pub(crate) pid: u32,
    pub(crate) heartbeat: Duration,
    pub(crate) control: mpsc::Sender<ToWorker>,
    pub(crate) files: OfferedFiles,
}

impl Link {
    /// Transfers messages in both directions until the link ends; returns the reason.
    pub(crate) async fn serve(
        self,
        reporter: Reporter,
        (receiver, sender): (ServerReceiver, ServerSender),
        (control, batches): (mpsc::Receiver<ToWorker>, mpsc::Receiver<Outgoing>),
    ) -> String {
        // There is one connection per worker; the drop closes the endpoint.
        drop(self.listener);
        let (requests, wanted) = mpsc::channel(FILES_MAX);
        // At most one piece of 1 MiB is read ahead of the link.
        let (answers, files) = mpsc::channel(1);
        tokio::select! {
            error = receive(receiver, &reporter, &requests) => error.to_string(),
            () = self.files.serve(wanted, answers) => "the task that sends model files ended".to_owned(),
            end = sender.run(control, batches, files) => match end {
                Ok(()) => "the engine dropped the worker".to_owned(),
                Err(error) => error.to_string(),
            },
            () = ping(self.control, self.heartbeat) => "the task that sends pings ended".to_owned(),
        }
    }

    /// Accepts the worker's connection and checks that the worker is the one that was started.
    pub(crate) async fn open(&self) -> anyhow::Result<(ServerReceiver, ServerSender)> {
        let (mut receiver, sender) = self.listener.accept(self.pid).await?;
        let hello = receiver.receive().await?;
        let FromWorker::Hello { version, token } = hello.message else {
            bail!("handshake failed: expected `Hello` from the worker");
        };
        if token != self.token {
            bail!("handshake failed: wrong token");
        }
        if version != VERSION {
            bail!(
                "handshake failed: protocol version {version} of the worker, {VERSION} of the server; the \
                 program was replaced while the server ran; restart the server"
            );
        }
        Ok((receiver, sender))
    }
}

/// Forwards the worker's messages until the link ends.
async fn receive(
    mut receiver: ServerReceiver,
    reporter: &Reporter,
    files: &mpsc::Sender<FilesRequest>,
) -> WireError {
    loop {
        let whole = match receiver.receive().await {
            Ok(whole) => whole,
            Err(error) => return error,
        };
        match whole.message {
            FromWorker::Files(request) if files.try_send(request).is_err() => {
                return WireError::Malformed("too many requests for files at once");
            }
            FromWorker::Files(_) => {}
            _ => reporter.report(WorkerEvent::Message(whole)).await,
        }
    }
}

async fn ping(control: mpsc::Sender<ToWorker>, heartbeat: Duration) {
    let mut number = 0;
    while !control.is_closed() {
        // A full channel means a stuck link, which the heartbeat timeout ends.
        let _ = control.try_send(ToWorker::Ping { number });
        number += 1;
        tokio::time::sleep(heartbeat).await;
    }
}
