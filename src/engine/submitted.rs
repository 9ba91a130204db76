//! Calls on their way from the handle to the driver.

use super::memory::Held;
use super::messages::InferCall;
use super::partial::Reply;
use schedule::RequestId;

/// A call on its way to the driver.
pub(super) struct Submitted {
    pub(super) id: RequestId,
    pub(super) call: InferCall,
    pub(super) reply: Reply,
    /// The charge of inputs that the server makes itself; those of clients carry theirs.
    pub(super) held: Option<Held>,
}
