//! What a slot and the network's input are made of: float32 or float64.

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// The dtype of slots and network input: `f32` or `f64`. Arithmetic is float64 with both.
pub trait Slot: bytemuck::Pod + Send + Sync + sealed::Sealed {
    /// Zero.
    const ZERO: Self;

    /// The same number as float64.
    fn wide(self) -> f64;

    /// The nearest number of this dtype.
    fn narrow(value: f64) -> Self;

    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
}

impl Slot for f32 {
    const ZERO: Self = 0.0;

    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn narrow(value: f64) -> Self {
        value as Self
    }

    fn is_finite(self) -> bool {
        Self::is_finite(self)
    }
}

impl Slot for f64 {
    const ZERO: Self = 0.0;

    fn wide(self) -> f64 {
        self
    }

    fn narrow(value: f64) -> Self {
        value
    }

    fn is_finite(self) -> bool {
        Self::is_finite(self)
    }
}
