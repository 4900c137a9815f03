//! The two backends, and the macros that write a query once for both.

pub(crate) mod postgres;
pub(crate) mod sqlite;

/// Rows in one statement: PostgreSQL takes 65,535 values, SQLite 32,766.
pub(crate) const ROWS: usize = 1_000;

/// Compiles queries twice, as the modules `postgres` and `sqlite`, so that diesel checks each against both backends.
/// Within, `backend` is [`postgres`] or [`sqlite`]. `with { name: path, … }` names modules that are also compiled twice, or
/// have a file for each backend: `name` is their part for the same backend.
macro_rules! backends {
    (with { $($name:ident: $($path:ident)::+,)* } $($item:item)*) => {
        pub(crate) mod postgres {
            use super::*;
            use crate::backend::postgres as backend;
            $(use $($path)::+::postgres as $name;)*

            $($item)*
        }

        pub(crate) mod sqlite {
            use super::*;
            use crate::backend::sqlite as backend;
            $(use $($path)::+::sqlite as $name;)*

            $($item)*
        }
    };
    ($($item:item)*) => {
        $crate::backend::backends!(with {} $($item)*);
    };
}
pub(crate) use backends;
