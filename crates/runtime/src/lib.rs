//! What every Hookline process needs: settings, telemetry, shutdown, the admin listener
