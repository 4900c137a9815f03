mod sqlite_plans;
