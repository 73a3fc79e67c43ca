//! Configuration: `broker.conf` and `namesrv.conf` exactly as operators write them for Java.
//!
//! `properties` reads the syntax, `keys` knows every key, `settings` decides which value is in effect and
//! what to say about it, `broker` and `namesrv` are the typed results. A change while a server runs makes a new
//! result (`changed`).

mod broker;
mod error;
mod keys;
mod legacy;
mod machine;
mod namesrv;
mod own;
mod properties;
mod settings;
mod value;
mod warning;

pub use broker::BrokerConfig;
pub use error::{ConfigError, Place};
pub use machine::Machine;
pub use namesrv::NamesrvConfig;
pub use own::OwnConfig;
pub use properties::{Property, SyntaxError, parse as parse_properties, with as properties_with};
pub use value::{BrokerRole, Cpus, DelayLevels, DeleteHours, FlushDiskType, NameServers};
pub use warning::Warning;
