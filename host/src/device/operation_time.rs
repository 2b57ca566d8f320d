//! What a profile of a GPU says.

use serde::Serialize;

/// What all operations of one name took together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationTime {
    /// The kernel, or the sizes of a product.
    pub name: String,
    /// How many there were.
    pub count: u64,
    /// Seconds.
    pub seconds: f64,
    /// Floating-point operations of all, where the sizes say how many there are: products.
    pub flops: Option<f64>,
}
