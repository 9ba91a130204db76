//! Connections over the cap: health checks are answered, all other requests are rejected with 503.
//!
//! Otherwise a liveness probe from a host that has used up its connections would restart a healthy
//! server.

use crate::http::respond::{Response, render};
use hyper::Request;
use hyper::service::Service;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;
use tokio::task::AbortHandle;
use types::error::Error;

/// Maximum number of connections over the cap that are served at the same time. It is at most the
/// cap, which reserves as many descriptors.
const MAX: usize = 64;

/// Delay before a rejected client may try again.
const RETRY: Duration = Duration::from_secs(1);

/// The routes that no limit applies to.
const HEALTH: [&str; 2] = ["/v2/health/live", "/v2/health/ready"];

/// A service that passes health checks to `served` and all other requests to `refused`.
#[derive(Clone, Debug)]
pub(crate) struct HealthOnly<S, R> {
    pub(crate) served: S,
    pub(crate) refused: R,
}

impl<S, R, B> Service<Request<B>> for HealthOnly<S, R>
where
    S: Service<Request<B>, Response = Response, Error = Infallible, Future: Send + 'static>,
    R: Service<Request<B>, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        if HEALTH.contains(&request.uri().path()) {
            return Box::pin(self.served.call(request));
        }
        Box::pin(self.refused.call(request))
    }
}

/// Returns the answer of `refused`.
pub(crate) async fn refuse<B>(_: Request<B>) -> Result<Response, Infallible> {
    let error =
        Error::unavailable("all connections, or those of your address, are in use; try again");
    Ok(render(Err(error.retry_after(RETRY).into())))
}

/// The tasks of connections over the cap. The oldest ones are ended for new ones: a probe sends its
/// request at once, unlike a client that holds connections open.
#[derive(Debug)]
pub(crate) struct RefusedConnections {
    tasks: VecDeque<AbortHandle>,
    max: usize,
}

impl RefusedConnections {
    /// Creates the set without tasks, beside up to `connections` within the cap.
    pub(crate) fn within(connections: usize) -> RefusedConnections {
        RefusedConnections { tasks: VecDeque::new(), max: MAX.min(connections).max(1) }
    }

    pub(crate) fn add(&mut self, task: AbortHandle) {
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push_back(task);
        if self.tasks.len() > self.max
            && let Some(oldest) = self.tasks.pop_front()
        {
            oldest.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn oldest_connection_is_ended_for_a_new_one() {
        for (connections, max) in [(1000, MAX), (7, 7), (0, 1)] {
            let mut refused = RefusedConnections::within(connections);
            let mut tasks: Vec<_> =
                (0..=max).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
            tasks.iter().for_each(|task| refused.add(task.abort_handle()));
            let oldest = tasks.remove(0).await;
            assert!(oldest.is_err_and(|error| error.is_cancelled()));
            assert!(tasks.iter().all(|task| !task.is_finished()));
            tasks.iter().for_each(|task| task.abort());
        }
    }
}
