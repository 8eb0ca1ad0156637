//! Which objects go together, and what comes out.
