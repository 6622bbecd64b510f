//! Events of any type to a room or a user, and how a protobuf `Struct` becomes JSON.

use bytes::Bytes;
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde::{Serialize, Serializer, ser::Error};

use crate::{
    control::{
        gateway::{Origin, Publication, PublishError},
        grpc::notify::required,
    },
    event::{Class, Target},
    generated::realtime::{
        BroadcastEventRequest, DeliveryClass, SendToUserRequest, broadcast_event_request,
        send_to_user_request,
    },
    route::classify,
};

/// To the members of a room.
pub(super) fn broadcast(request: BroadcastEventRequest) -> Result<Publication, PublishError> {
    required("room", &request.room)?;
    let body = match request.body {
        Some(broadcast_event_request::Body::Payload(fields)) => Body::Fields(fields),
        Some(broadcast_event_request::Body::PayloadJson(json)) => Body::Json(json),
        None => Body::Empty,
    };
    let target = Target::Room(request.room.into());
    Parts { target, body, event_type: request.event_type, class: request.class, version: request.version }
        .publication(request.idempotency_key)
}

/// To the connections of a user.
pub(super) fn send_to_user(request: SendToUserRequest) -> Result<Publication, PublishError> {
    required("user_id", &request.user_id)?;
    let body = match request.body {
        Some(send_to_user_request::Body::Payload(fields)) => Body::Fields(fields),
        Some(send_to_user_request::Body::PayloadJson(json)) => Body::Json(json),
        None => Body::Empty,
    };
    let target = Target::User(request.user_id.into());
    Parts { target, body, event_type: request.event_type, class: request.class, version: request.version }
        .publication(request.idempotency_key)
}

enum Body {
    Fields(Struct),
    Json(Vec<u8>),
    Empty,
}

impl Body {
    /// Its name in the requests.
    const fn field(&self) -> &'static str {
        match self {
            Self::Fields(_) | Self::Empty => "payload",
            Self::Json(_) => "payload_json",
        }
    }

    fn into_json(self) -> Result<Bytes, PublishError> {
        match self {
            Self::Fields(fields) => serde_json::to_vec(&Json(&fields))
                .map(Bytes::from)
                .map_err(|error| PublishError::invalid("payload", format!("must be JSON: {error}"))),
            Self::Json(json) if json.is_empty() => {
                Err(PublishError::invalid("payload_json", "must be one JSON value"))
            }
            Self::Json(json) => Ok(json.into()),
            Self::Empty => Ok(Bytes::from_static(b"{}")),
        }
    }
}

/// What the two requests have in common.
struct Parts {
    target: Target,
    event_type: String,
    body: Body,
    class: i32,
    version: u64,
}

impl Parts {
    fn publication(self, idempotency_key: String) -> Result<Publication, PublishError> {
        required("event_type", &self.event_type)?;
        let payload_field = self.body.field();
        let payload = self.body.into_json()?;
        let class = match DeliveryClass::try_from(self.class) {
            Ok(DeliveryClass::Unspecified) => None,
            Ok(DeliveryClass::Critical) => Some(Class::Critical),
            Ok(DeliveryClass::Ordered) => Some(Class::Ordered),
            Ok(DeliveryClass::Ephemeral) => Some(Class::Ephemeral),
            Ok(DeliveryClass::Latest) => {
                Some(Class::Latest(classify::latest_key(&self.event_type, &self.target, &payload)))
            }
            Err(_) => return Err(PublishError::invalid("class", "must be a known delivery class")),
        };
        Ok(Publication {
            class,
            version: (self.version > 0).then_some(self.version),
            idempotency_key: Some(idempotency_key),
            origin: Origin::Caller(payload_field),
            ..Publication::new(self.target, self.event_type, payload)
        })
    }
}

/// Well-known types as the JSON that they stand for; whole numbers without a fraction.
struct Json<'a, T>(&'a T);

impl Serialize for Json<'_, Struct> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.fields.iter().map(|(name, value)| (name, Json(value))))
    }
}

impl Serialize for Json<'_, ListValue> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.values.iter().map(Json))
    }
}

impl Serialize for Json<'_, Value> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            None | Some(Kind::NullValue(_)) => serializer.serialize_unit(),
            Some(Kind::BoolValue(value)) => serializer.serialize_bool(*value),
            Some(Kind::StringValue(text)) => serializer.serialize_str(text),
            Some(Kind::StructValue(fields)) => Json(fields).serialize(serializer),
            Some(Kind::ListValue(list)) => Json(list).serialize(serializer),
            Some(Kind::NumberValue(number)) if !number.is_finite() => {
                Err(S::Error::custom("a number is not finite"))
            }
            Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= WHOLE_MAX => {
                serializer.serialize_i64(*number as i64)
            }
            Some(Kind::NumberValue(number)) => serializer.serialize_f64(*number),
        }
    }
}

/// Up to here every whole number has a double of its own: 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    fn fields(list: Vec<(&str, Value)>) -> Struct {
        Struct { fields: list.into_iter().map(|(name, value)| (name.into(), value)).collect() }
    }

    fn to_user() -> SendToUserRequest {
        SendToUserRequest { user_id: "u".into(), event_type: "notification:new".into(), ..Default::default() }
    }

    fn with_body(body: send_to_user_request::Body) -> Result<Publication, PublishError> {
        send_to_user(SendToUserRequest { body: Some(body), ..to_user() })
    }

    #[test]
    fn a_struct_becomes_the_json_that_it_stands_for() {
        let number = |n| value(Kind::NumberValue(n));
        let list = vec![number(1.0), number(-0.5), number(1e300), number(-7.0)];
        let payload = fields(vec![
            ("bool", value(Kind::BoolValue(true))),
            ("list", value(Kind::ListValue(ListValue { values: list }))),
            (
                "nested",
                value(Kind::StructValue(fields(vec![("quote", value(Kind::StringValue("\"\n".into())))]))),
            ),
            ("none", Value { kind: None }),
            ("null", value(Kind::NullValue(0))),
        ]);
        let publication = with_body(send_to_user_request::Body::Payload(payload)).unwrap();
        let expected =
            r#"{"bool":true,"list":[1,-0.5,1e+300,-7],"nested":{"quote":"\"\n"},"none":null,"null":null}"#;
        assert_eq!(publication.payload, expected);
    }

    #[test]
    fn a_number_that_json_lacks_is_refused() {
        for number in [f64::NAN, f64::INFINITY] {
            let payload = fields(vec![("n", value(Kind::NumberValue(number)))]);
            let refused = with_body(send_to_user_request::Body::Payload(payload)).unwrap_err();
            assert!(matches!(refused, PublishError::Invalid { field: "payload", .. }));
        }
    }

    #[test]
    fn json_passes_byte_for_byte() {
        let json = b"{ \"a\" : 1.0 }".to_vec();
        let publication = with_body(send_to_user_request::Body::PayloadJson(json.clone())).unwrap();
        assert_eq!(publication.payload, json);
        let refused = with_body(send_to_user_request::Body::PayloadJson(Vec::new())).unwrap_err();
        assert!(matches!(refused, PublishError::Invalid { field: "payload_json", .. }));
    }

    #[test]
    fn no_payload_is_an_empty_object() {
        assert_eq!(send_to_user(to_user()).unwrap().payload, "{}");
    }

    #[test]
    fn what_is_required_is_named() {
        let room = BroadcastEventRequest { event_type: "t".into(), ..Default::default() };
        let kind = BroadcastEventRequest { room: "r".into(), ..Default::default() };
        let class = SendToUserRequest { class: 99, ..to_user() };
        let table = [
            (broadcast(room), "room"),
            (broadcast(kind), "event_type"),
            (send_to_user(SendToUserRequest { user_id: String::new(), ..to_user() }), "user_id"),
            (send_to_user(SendToUserRequest { event_type: String::new(), ..to_user() }), "event_type"),
            (send_to_user(class), "class"),
        ];
        for (refused, expected) in table {
            match refused {
                Err(PublishError::Invalid { field, .. }) => assert_eq!(field, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_caller_may_name_the_class_and_a_version() {
        let request = SendToUserRequest { class: DeliveryClass::Latest.into(), version: 4, ..to_user() };
        let publication = send_to_user(request).unwrap();
        assert!(matches!(publication.class, Some(Class::Latest(_))));
        assert_eq!(publication.version, Some(4));
        assert_eq!(send_to_user(to_user()).unwrap().class, None);
    }
}
