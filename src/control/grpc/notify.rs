//! The three notifications with fields of their own, as the JSON that clients get: what is set, under the names of
//! the proto file, without `user_id`, `success` and `idempotency_key`.

use serde::Serialize;

use crate::{
    control::gateway::{Origin, Publication, PublishError},
    event::{Class, QUEUE_POSITION, Target},
    generated::realtime::{
        NotifyBookingResultRequest, NotifyPaymentStatusRequest, NotifyQueuePositionRequest,
    },
    route::classify,
};

#[derive(Serialize)]
struct BookingResult<'a> {
    booking_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    booking_reference: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    event_id: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    seat_numbers: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    total_amount: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    currency: &'a str,
}

/// `booking:confirmed` or `booking:failed`.
pub(super) fn booking_result(request: NotifyBookingResultRequest) -> Result<Publication, PublishError> {
    required("user_id", &request.user_id)?;
    required("booking_id", &request.booking_id)?;
    let kind = if request.success { "booking:confirmed" } else { "booking:failed" };
    let payload = BookingResult {
        booking_id: &request.booking_id,
        message: &request.message,
        booking_reference: &request.booking_reference,
        event_id: &request.event_id,
        seat_numbers: &request.seat_numbers,
        total_amount: &request.total_amount,
        currency: &request.currency,
    };
    Ok(publication(&request.user_id, kind, &payload, request.idempotency_key))
}

/// `booking:queue_position`. Written by hand: positions come by the hundred thousand, and the JSON of the event is what
/// names the value.
pub(super) fn queue_position(request: NotifyQueuePositionRequest) -> Result<Publication, PublishError> {
    required("user_id", &request.user_id)?;
    required("event_id", &request.event_id)?;
    let NotifyQueuePositionRequest { position, total, estimated_wait_seconds, version, .. } = request;
    let mut payload = Vec::with_capacity(POSITION_BYTES + request.event_id.len());
    payload.extend_from_slice(br#"{"event_id":"#);
    let event_at = payload.len();
    append(&mut payload, &request.event_id);
    let class = Class::Latest(classify::event_key(QUEUE_POSITION, &payload[event_at..]));
    // Sent even when it is 0: it is what the message is about.
    payload.extend_from_slice(br#","position":"#);
    append(&mut payload, &position);
    for (name, number) in [
        (r#","total":"#, total),
        (r#","estimated_wait_seconds":"#, estimated_wait_seconds.into()),
        (r#","version":"#, version),
    ] {
        if number > 0 {
            payload.extend_from_slice(name.as_bytes());
            append(&mut payload, &number);
        }
    }
    payload.push(b'}');
    Ok(Publication {
        class: Some(class),
        version: (version > 0).then_some(version),
        idempotency_key: (!request.idempotency_key.is_empty()).then_some(request.idempotency_key),
        origin: Origin::Fields,
        ..Publication::new(Target::User(request.user_id.into()), QUEUE_POSITION, payload.into_boxed_slice())
    })
}

/// Holds a position without its event: names, and numbers of usual size.
const POSITION_BYTES: usize = 128;

fn append(json: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(json, value).expect("strings and numbers always have a JSON form");
}

#[derive(Serialize)]
struct PaymentStatus<'a> {
    payment_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    booking_id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    amount: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    currency: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

/// `payment:<status>`.
pub(super) fn payment_status(request: NotifyPaymentStatusRequest) -> Result<Publication, PublishError> {
    required("user_id", &request.user_id)?;
    required("payment_id", &request.payment_id)?;
    required("status", &request.status)?;
    let kind = match request.status.as_str() {
        "processing" => "payment:processing",
        "success" => "payment:success",
        "failed" => "payment:failed",
        "refunded" => "payment:refunded",
        _ => {
            let problem = "must be one of processing, success, failed, refunded";
            return Err(PublishError::invalid("status", problem));
        }
    };
    let payload = PaymentStatus {
        payment_id: &request.payment_id,
        booking_id: &request.booking_id,
        status: &request.status,
        amount: &request.amount,
        currency: &request.currency,
        message: &request.message,
    };
    Ok(publication(&request.user_id, kind, &payload, request.idempotency_key))
}

/// Refuses a field that is empty.
pub(super) fn required(field: &'static str, value: &str) -> Result<(), PublishError> {
    if value.is_empty() { Err(PublishError::invalid(field, "is required")) } else { Ok(()) }
}

fn publication(user: &str, kind: &str, payload: &impl Serialize, idempotency_key: String) -> Publication {
    let mut json = Vec::new();
    append(&mut json, payload);
    Publication {
        idempotency_key: Some(idempotency_key),
        origin: Origin::Fields,
        ..Publication::new(Target::User(user.into()), kind, json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(publication: Result<Publication, PublishError>) -> (String, String) {
        let publication = publication.unwrap();
        assert_eq!(publication.target, Target::User("u".into()));
        (publication.kind.to_string(), String::from_utf8(publication.payload.to_vec()).unwrap())
    }

    fn missing(publication: Result<Publication, PublishError>) -> String {
        publication.unwrap_err().to_string()
    }

    fn booking() -> NotifyBookingResultRequest {
        NotifyBookingResultRequest { user_id: "u".into(), booking_id: "b".into(), ..Default::default() }
    }

    fn payment(status: &str) -> NotifyPaymentStatusRequest {
        NotifyPaymentStatusRequest {
            user_id: "u".into(),
            payment_id: "p".into(),
            status: status.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_booking_result_carries_what_is_set() {
        let full = NotifyBookingResultRequest {
            success: true,
            message: "Booking confirmed".into(),
            booking_reference: "BK12345".into(),
            event_id: "e".into(),
            seat_numbers: vec!["A1".into(), "A2".into()],
            total_amount: "100.00".into(),
            currency: "USD".into(),
            idempotency_key: "k".into(),
            ..booking()
        };
        let expected = r#"{"booking_id":"b","message":"Booking confirmed","booking_reference":"BK12345","event_id":"e","seat_numbers":["A1","A2"],"total_amount":"100.00","currency":"USD"}"#;
        assert_eq!(shown(booking_result(full)), ("booking:confirmed".into(), expected.into()));
        let bare = shown(booking_result(booking()));
        assert_eq!(bare, ("booking:failed".into(), r#"{"booking_id":"b"}"#.into()));
    }

    #[test]
    fn a_position_is_sent_even_when_it_is_zero() {
        let request =
            NotifyQueuePositionRequest { user_id: "u".into(), event_id: "e".into(), ..Default::default() };
        let expected = r#"{"event_id":"e","position":0}"#;
        let publication = queue_position(request.clone());
        assert_eq!(publication.as_ref().unwrap().version, None);
        assert_eq!(shown(publication), ("booking:queue_position".into(), expected.into()));
        let full = NotifyQueuePositionRequest {
            position: 7,
            total: 9,
            estimated_wait_seconds: 60,
            version: 3,
            ..request
        };
        let expected = r#"{"event_id":"e","position":7,"total":9,"estimated_wait_seconds":60,"version":3}"#;
        let publication = queue_position(full);
        assert_eq!(publication.as_ref().unwrap().version, Some(3));
        assert_eq!(shown(publication).1, expected);
    }

    #[test]
    fn a_position_has_the_key_that_its_payload_names() {
        for event_id in ["e", "7", "a \"quoted\" one", "größe\u{1}"] {
            let request = NotifyQueuePositionRequest {
                user_id: "u".into(),
                event_id: event_id.into(),
                total: u64::MAX,
                ..Default::default()
            };
            let Publication { target, kind, payload, class, .. } = queue_position(request).unwrap();
            assert_eq!(class, Some(classify::class_of(&kind, &target, &payload)), "{event_id}");
        }
    }

    #[test]
    fn a_payment_status_names_the_type() {
        for status in ["processing", "success", "failed", "refunded"] {
            let (kind, payload) = shown(payment_status(payment(status)));
            assert_eq!(kind, format!("payment:{status}"));
            assert_eq!(payload, format!(r#"{{"payment_id":"p","status":"{status}"}}"#));
        }
        assert!(missing(payment_status(payment("lost"))).contains("`status` must be one of"));
    }

    #[test]
    fn what_is_required_is_named() {
        let no_user = NotifyBookingResultRequest { user_id: String::new(), ..booking() };
        let no_booking = NotifyBookingResultRequest { booking_id: String::new(), ..booking() };
        let no_event = NotifyQueuePositionRequest { user_id: "u".into(), ..Default::default() };
        let no_payment = NotifyPaymentStatusRequest { payment_id: String::new(), ..payment("failed") };
        let table = [
            (missing(booking_result(no_user)), "`user_id` is required"),
            (missing(booking_result(no_booking)), "`booking_id` is required"),
            (missing(queue_position(no_event)), "`event_id` is required"),
            (missing(payment_status(no_payment)), "`payment_id` is required"),
            (missing(payment_status(payment(""))), "`status` is required"),
        ];
        for (said, expected) in table {
            assert_eq!(said, expected);
        }
    }
}
