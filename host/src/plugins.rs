//! Plugins on the host side: discovery, trust, loading, instances.
