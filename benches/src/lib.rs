//! What the benches share; they live in `benches/`.

pub mod glommio;
