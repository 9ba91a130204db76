//! Calls in the channel from the handle to the driver.

use crate::calls::held_memory::HeldMemory;
use crate::calls::messages::InferCall;
use crate::calls::partial::Reply;
use schedule::RequestId;

/// A call in the channel to the driver.
pub(crate) struct Submitted {
    pub(crate) id: RequestId,
    pub(crate) call: InferCall,
    pub(crate) reply: Reply,
    /// The charge of inputs that the server creates itself; inputs of clients carry their own
    /// charge.
    pub(crate) held: Option<HeldMemory>,
}
