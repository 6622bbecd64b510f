//! Streams in Redis: the contract of every store, outages (catalogue F6, H1, H2, H4), the lease.

mod contract;
mod embedded;
mod lease;
mod losses;
mod outages;
mod subject;
mod together;

/// A test of each fact, for each store.
macro_rules! contract {
    ($($facts:ident { $($fact:ident)* })*) => {
        mod in_memory {
            $($(#[test]
            fn $fact() {
                super::$facts::$fact(&mut super::embedded::Embedded::new());
            })*)*
        }
        mod on_redis {
            $($(#[test]
            fn $fact() {
                super::$facts::$fact(&mut super::subject::OnRedis::new());
            })*)*
        }
    };
}

contract! {
    contract {
        offsets_of_a_stream_start_at_one_and_grow_by_one
        a_stream_has_its_epoch_before_its_first_entry
        any_name_is_the_name_of_a_stream
        a_repeated_key_gets_the_first_position
        a_key_is_forgotten_after_five_minutes
        an_entry_with_a_number_is_stored_once_however_late_it_is_repeated
        an_entry_with_a_number_that_was_lost_is_stored_again
        of_too_many_writers_the_one_is_forgotten_that_wrote_longest_ago
        what_others_may_have_stored_is_looked_for
        what_comes_too_late_is_not_stored
        what_follows_from_a_stream_is_stored_in_no_other
        the_oldest_entries_go_when_there_are_too_many
        the_oldest_entries_go_when_they_are_too_large
        entries_of_a_room_go_at_their_age
        what_a_user_did_not_acknowledge_is_kept_for_longer
        epoch_and_offset_outlive_the_entries
        a_stream_that_was_forgotten_has_another_epoch
        a_page_holds_what_was_stored_in_order
        what_does_not_join_is_not_read
        a_page_that_does_not_join_tells_where_the_rest_begins
        who_has_an_epoch_of_long_ago_gets_nothing_twice
        an_acknowledgement_never_falls_and_never_passes_the_end
        an_acknowledgement_of_another_epoch_counts_for_nothing
        the_last_value_of_each_key_is_kept_and_never_an_older_version
        last_values_of_one_address_are_bounded_and_go_at_their_age
    }
    losses {
        a_store_that_is_behind_goes_on_in_an_epoch_that_no_other_joins
        whoever_went_on_before_a_loss_was_known_is_told
        what_follows_from_lost_entries_is_not_stored
        an_epoch_that_was_lost_parts_with_those_that_it_came_from
        what_was_stored_after_an_empty_restart_stays
        who_is_behind_the_store_changes_nothing
        an_empty_restart_begins_a_new_epoch
        a_stream_goes_on_after_a_restart_that_lost_nothing
        what_took_the_place_of_lost_entries_does_not_follow_them
        who_comes_by_an_epoch_that_parted_gets_what_came_since_then
    }
}
