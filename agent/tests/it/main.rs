//! Tests of the whole agent: the real binary, real components, real sockets.

mod configs;
mod dependencies;
mod hostile;
mod layering;
mod outage;
mod recovery;
mod reload;
mod reloader;
mod servers;
mod shipped;
mod support;
mod whole_loop;
