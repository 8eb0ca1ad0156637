//! Which zone a client is in, from what it calls itself.
//!
//! Owns: the words in a client id that say it.
//!
//! Metadata and Produce requests have no field for it. `diskless_az=` and `ws_az=` are what clients of other brokers over
//! object stores already say.

/// Longest zone that is believed.
const ZONE_BYTES_MAX: usize = 255;
/// What begins a zone in a client id.
const WORDS: [&str; 3] = ["zone=", "diskless_az=", "ws_az="];

/// The zone in a client id such as `orders,zone=eu-1a`.
#[must_use]
pub fn zone_of_client(client_id: Option<&str>) -> Option<&str> {
    let words = client_id?.split([',', ';', '&', ' ', '/']);
    words
        .filter_map(|word| WORDS.iter().find_map(|begin| word.strip_prefix(begin)))
        .find(|zone| !zone.is_empty() && zone.len() <= ZONE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::zone_of_client;

    #[test]
    fn client_ids_say_zones() {
        for (id, zone) in [
            ("zone=a", Some("a")),
            ("orders,zone=eu-1a", Some("eu-1a")),
            ("x,ws_az=use1-az1,ws_host_override=y", Some("use1-az1")),
            ("diskless_az=b;z", Some("b")),
            ("orders", None),
            ("zone=", None),
            ("timezone=x", None),
        ] {
            assert_eq!(zone_of_client(Some(id)), zone, "{id}");
        }
        assert_eq!(zone_of_client(None), None);
    }
}
