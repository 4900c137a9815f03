//! The list of event types, against a validator of JSON Schema.

use hookline_core::event::{Event, MissingId};
use hookline_core::event_type::EventType;

use super::*;

#[actix_web::test]
async fn every_event_type_has_a_description_a_schema_and_a_sample_that_fits_it() {
    let api = TestApi::new().await;
    let response = api.get("/v1/event-types").await;
    assert_eq!(response.status, 200, "{response:?}");
    let listed = response.json();
    let listed = listed["event_types"].as_array().unwrap();
    let names: Vec<&str> = listed
        .iter()
        .map(|one| one["event_type"].as_str().unwrap())
        .collect();
    assert_eq!(names, EventType::ALL.map(EventType::as_str));
    for one in listed {
        let (schema, sample) = (&one["schema"], &one["sample"]);
        assert!(jsonschema::meta::is_valid(schema), "{schema}");
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(schema)
            .unwrap();
        let errors: Vec<String> = validator
            .iter_errors(sample)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(sample["event_type"], one["event_type"]);
        assert!(one["description"].as_str().unwrap().len() > 20, "{one}");
        let taken = Event::from_json(sample.to_string().as_bytes(), MissingId::Refused);
        assert!(taken.is_ok(), "{taken:?}");

        for (member, value) in [
            ("event_type", json!("workflow.unknown")),
            ("event_id", json!("")),
            ("timestamp", json!("2025-12-01T02:00:48+01:00")),
            ("timestamp", json!("yesterdayZ")),
            ("data", json!([])),
            ("another", json!(1)),
        ] {
            let mut bad = sample.clone();
            bad[member] = value;
            assert!(!validator.is_valid(&bad), "{bad}");
        }
    }
}

/// The files differ in what is said of the type alone.
#[test]
fn the_schemas_of_all_event_types_have_one_form() {
    let forms = EventType::ALL.map(|event_type| {
        let mut schema: Value = serde_json::from_str(event_type.json_schema()).unwrap();
        assert_eq!(
            schema["properties"]["event_type"]["const"],
            event_type.as_str()
        );
        schema["properties"]["event_type"] = Value::Null;
        for own in ["title", "description", "examples"] {
            assert!(!schema[own].is_null(), "{own}");
            schema[own] = Value::Null;
        }
        schema
    });
    assert!(forms.iter().all(|form| *form == forms[0]));
}
