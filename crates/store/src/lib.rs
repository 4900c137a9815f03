//! What Hookline remembers: PostgreSQL or SQLite
