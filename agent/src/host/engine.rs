//! Engines that run models in guests: asked from inside their network, in a child of its own.
