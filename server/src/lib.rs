//! The rmq name server and broker.
