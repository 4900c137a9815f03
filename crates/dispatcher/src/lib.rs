//! From owed deliveries to signed requests
