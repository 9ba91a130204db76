//! Calls on their way from the handle to the driver.

use crate::calls::held_memory::HeldMemory;
use crate::calls::messages::InferCall;
use crate::calls::partial::Reply;
use schedule::RequestId;

/// A call on its way to the driver.
pub(crate) struct Submitted {
    pub(crate) id: RequestId,
    pub(crate) call: InferCall,
    pub(crate) reply: Reply,
    /// The charge of inputs that the server makes itself; those of clients carry theirs.
    pub(crate) held: Option<HeldMemory>,
}
