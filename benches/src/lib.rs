//! What the benches share; they live in `benches/`.

pub mod glommio;
pub mod log_record;
pub mod message;
