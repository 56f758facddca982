//! Lists in pages: query parameters, read strictly, and opaque cursors that stay right while rows
//! are appended.

use std::fmt::Display;
use std::str::FromStr;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ledger_verifier::Chain;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::problem::{Code, Problem};
use crate::body::shown;
use crate::query::{Filter, Order, PARAMETERS, Parameter, add_all, filters_of};
use crate::store::page::{PageRange, Slice};

const LIMIT: &str = "limit";
const CURSOR: &str = "cursor";
const ORDER: &str = "order";
const CHAINS: &str = "chains";
/// Items on a page, unless `limit` says so.
const DEFAULT_LIMIT: u32 = 100;
/// Items on a page at most.
const MAX_LIMIT: u32 = 1000;
/// Parameters of a request at most: each is compared with those before it.
const MAX_PARAMETERS: usize = 32;

/// What every list takes, as the API's description tells it; [`Parameters::page_of`] reads it.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description")]
pub(super) struct PageParameters {
    /// Items on a page; 100 if not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; opaque.
    cursor: Option<String>,
}

/// What every list of a chain takes besides, and statistics, too; [`Parameters::filter_of`] reads it
/// by [`PARAMETERS`](crate::query::PARAMETERS). A chain takes those of its columns.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description")]
pub(super) struct FilterParameters {
    /// Appended at this time or later (RFC 3339).
    from: Option<DateTime<Utc>>,
    /// Appended before this time.
    to: Option<DateTime<Utc>>,
    /// Made by its producer at this time or later.
    timestamp_from: Option<DateTime<Utc>>,
    /// Made by its producer before this time.
    timestamp_to: Option<DateTime<Utc>>,
    /// Ids from this one.
    #[param(minimum = 1)]
    from_id: Option<i64>,
    /// Ids up to this one.
    #[param(minimum = 1)]
    to_id: Option<i64>,
    /// Conviction of this or more.
    min_conviction: Option<String>,
    /// Conviction of this or less.
    max_conviction: Option<String>,
    /// Exactly this, as the following.
    symbol: Option<String>,
    /// `BUY` or `SELL`.
    side: Option<String>,
    source_module: Option<String>,
    ticker: Option<String>,
    /// `LONG`, `SHORT` or `NEUTRAL`.
    direction: Option<String>,
    signal_type: Option<String>,
    /// `SIGNAL` or `OUTCOME`.
    record_type: Option<String>,
    acted_upon: Option<bool>,
    model_name: Option<String>,
    event_type: Option<String>,
    order_type: Option<String>,
    status: Option<String>,
    correlation_id: Option<uuid::Uuid>,
    signal_id: Option<String>,
    execution_id: Option<String>,
    order_execution_id: Option<i64>,
    exchange_order_id: Option<String>,
    recorded_by: Option<String>,
    actor: Option<String>,
    source: Option<String>,
    reason: Option<String>,
    duplicate_of: Option<uuid::Uuid>,
    #[param(pattern = "^[0-9a-f]{64}$")]
    row_hash: Option<String>,
}

/// The query of a request. A handler takes each parameter that it knows and then calls
/// [`finish`](Self::finish): one that nobody took is an error.
#[derive(Debug)]
pub(super) struct Parameters {
    path: String,
    given: Vec<Given>,
}

#[derive(Debug)]
struct Given {
    name: String,
    value: String,
    /// As it stood in the URL.
    spelt: String,
    taken: bool,
}

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.uri)
    }
}

pub(super) fn unreadable(name: &str, rule: impl Display) -> Problem {
    let name = shown(name);
    Problem::new(Code::UnreadableParameter, format!("{name} {rule}")).of_field(name)
}

/// As forms are encoded, but for bytes that are no UTF-8, which are an error.
fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

impl Parameters {
    /// Those of this address.
    pub(super) fn of(uri: &Uri) -> Result<Self, Problem> {
        Self::read(uri.path(), uri.query().unwrap_or_default())
    }

    fn read(path: &str, query: &str) -> Result<Self, Problem> {
        let mut given: Vec<Given> = Vec::new();
        for spelt in query.split('&').filter(|spelt| !spelt.is_empty()) {
            if given.len() == MAX_PARAMETERS {
                let detail = format!("there are more than {MAX_PARAMETERS} parameters");
                return Err(Problem::new(Code::UnreadableParameter, detail));
            }
            let (name, value) = spelt.split_once('=').unwrap_or((spelt, ""));
            let name = decode(name).ok_or_else(|| {
                Problem::new(Code::UnreadableParameter, "a parameter's name is not UTF-8")
            })?;
            let value = decode(value).ok_or_else(|| unreadable(&name, "is not UTF-8"))?;
            if given.iter().any(|before| before.name == name) {
                return Err(unreadable(&name, "is given twice"));
            }
            given.push(Given { name, value, spelt: spelt.to_owned(), taken: false });
        }
        Ok(Self { path: path.to_owned(), given })
    }

    /// The value of a parameter, where it is given.
    pub(super) fn take<T: FromStr<Err: Display>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Problem> {
        let Some(given) = self.given.iter_mut().find(|given| given.name == name) else {
            return Ok(None);
        };
        given.taken = true;
        let read = given.value.parse();
        read.map(Some).map_err(|error| unreadable(name, format_args!("cannot be read: {error}")))
    }

    /// `limit` and `cursor`, for the list of this name.
    pub(super) fn page_of(&mut self, list: &'static str) -> Result<PageOf, Problem> {
        let limit = self.take(LIMIT)?.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(unreadable(LIMIT, format_args!("is from 1 to {MAX_LIMIT}")));
        }
        let cursor: Option<String> = self.take(CURSOR)?;
        let after = cursor.map(|cursor| {
            read_cursor(list, &cursor).ok_or_else(|| unreadable(CURSOR, "is none of this list"))
        });
        // What the next page's address repeats.
        let others = self.given.iter().filter(|given| given.name != CURSOR);
        let others: Vec<_> = others.map(|given| given.spelt.as_str()).collect();
        let address = format!("{}?{}", self.path, others.join("&"));
        let range = PageRange { after: after.transpose()?, order: Order::default(), limit };
        Ok(PageOf { list, range, address })
    }

    /// The chain's filter that the parameters state.
    pub(super) fn filter_of(&mut self, chain: &'static Chain) -> Result<Filter, Problem> {
        self.filter_without(chain, "")
    }

    /// The same, without the parameter of this name.
    pub(super) fn filter_without(
        &mut self,
        chain: &'static Chain,
        missing: &str,
    ) -> Result<Filter, Problem> {
        let mut filter = Filter::all(chain);
        let taken = Filter::parameters_of(chain).filter(|parameter| parameter.name != missing);
        self.add_to(std::slice::from_mut(&mut filter), taken)?;
        Ok(filter)
    }

    /// A filter for each chain of the list `chains`, which must have what the parameters are about.
    pub(super) fn filters_of_chains(&mut self) -> Result<Vec<Filter>, Problem> {
        let names = self.take::<String>(CHAINS)?;
        let names = names.iter().flat_map(|names| names.split(','));
        let mut filters = filters_of(names).map_err(|rule| unreadable(CHAINS, rule))?;
        self.add_to(&mut filters, PARAMETERS.iter())?;
        Ok(filters)
    }

    fn add_to(
        &mut self,
        filters: &mut [Filter],
        parameters: impl Iterator<Item = &'static Parameter>,
    ) -> Result<(), Problem> {
        for Parameter { name, .. } in parameters {
            let text = self.take::<String>(name)?;
            let given = text.as_deref().map(|text| (*name, text));
            add_all(filters, given).map_err(|(name, rule)| unreadable(name, rule))?;
        }
        Ok(())
    }

    /// `order`, where it is given.
    pub(super) fn order(&mut self) -> Result<Option<Order>, Problem> {
        self.take::<Order>(ORDER)
    }

    /// Fails where a parameter is given that nobody took.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.given.into_iter().find(|given| !given.taken) {
            Some(given) => Err(unreadable(&given.name, "is no parameter of this route")),
            None => Ok(()),
        }
    }
}

/// Refuses parameters on a route that takes none.
#[derive(Debug)]
pub(super) struct NoParameters;

impl<S: Sync> FromRequestParts<S> for NoParameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Parameters::from_request_parts(parts, state).await?.finish().map(|()| Self)
    }
}

/// Which page of a list is asked for.
#[derive(Debug)]
pub(super) struct PageOf {
    list: &'static str,
    range: PageRange,
    address: String,
}

impl PageOf {
    /// The same page in this order.
    pub(super) fn in_order(mut self, order: Order) -> Self {
        self.range.order = order;
        self
    }

    /// What to read: the list goes on behind the last item of the page before.
    pub(super) fn range(&self) -> PageRange {
        self.range
    }

    /// The page that these items make, which were read as [`range`](Self::range) says; `place` is
    /// what a cursor keeps of an item.
    pub(super) fn make<T>(self, slice: Slice<T>, place: impl Fn(&T) -> i64) -> Page<T> {
        let Slice { items, has_more } = slice;
        let last = items.last().filter(|_| has_more);
        let next_cursor = last.map(|last| write_cursor(self.list, place(last)));
        Page { items, next_cursor, address: self.address }
    }
}

/// One page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Page<T> {
    /// The items, in the list's order.
    items: Vec<T>,
    /// To be sent as `cursor` for the page after this one; null where this is the last.
    #[schema(required)]
    next_cursor: Option<String>,
    #[serde(skip)]
    address: String,
}

impl<T> Page<T> {
    /// The same page of what `map` makes of its items.
    pub(super) fn map<U>(self, map: impl FnMut(T) -> U) -> Page<U> {
        let items = self.items.into_iter().map(map).collect();
        Page { items, next_cursor: self.next_cursor, address: self.address }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        // RFC 8288: the address is relative to the one that was asked for.
        let link = self.next_cursor.as_ref().and_then(|cursor| {
            let and = if self.address.ends_with('?') { "" } else { "&" };
            let link = format!("<{}{and}{CURSOR}={cursor}>; rel=\"next\"", self.address);
            HeaderValue::from_str(&link).ok()
        });
        let mut response = Json(self).into_response();
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

/// A cursor names its list, so that one of another list is refused and not misread.
pub(crate) fn write_cursor(list: &str, place: i64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}:{place}"))
}

pub(crate) fn read_cursor(list: &str, cursor: &str) -> Option<i64> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let place = text.strip_prefix(list)?.strip_prefix(':')?.parse().ok()?;
    (write_cursor(list, place) == cursor).then_some(place)
}

/// The address that the page at this one links to, as if an item at place 7 was its last.
pub(crate) fn next_page(address: &str) -> Option<String> {
    let mut parameters = Parameters::of(&address.parse().ok()?).ok()?;
    let page = parameters.page_of("things").ok()?;
    parameters.finish().ok()?;
    let slice = Slice { items: vec![7], has_more: true };
    let response = page.make(slice, |place| *place).into_response();
    let link = response.headers().get(header::LINK).and_then(|link| link.to_str().ok());
    let address = link.and_then(|link| link.strip_prefix('<')?.strip_suffix(">; rel=\"next\""));
    Some(address.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Result<PageOf, Problem> {
        let mut parameters = Parameters::read("/v1/things", query)?;
        let page = parameters.page_of("things")?;
        parameters.take::<String>("colour")?;
        parameters.finish()?;
        Ok(page)
    }

    #[test]
    fn a_page_links_to_the_next_and_the_last_to_none() {
        let first = page("colour=dark%20red&limit=2").unwrap();
        assert_eq!(first.range(), PageRange { after: None, order: Order::Descending, limit: 2 });
        let slice = |items: &[i64], has_more| Slice { items: items.to_vec(), has_more };
        let made = first.make(slice(&[9, 8], true), |place| *place);
        assert_eq!(made.items, [9, 8]);
        let cursor = made.next_cursor.clone().unwrap();
        let link = made.into_response().headers()["link"].to_str().unwrap().to_owned();
        let next = format!("colour=dark%20red&limit=2&cursor={cursor}");
        assert_eq!(link, format!("</v1/things?{next}>; rel=\"next\""));
        let next = page(&next).unwrap();
        assert_eq!(next.range().after, Some(8));
        let made = next.make(slice(&[7], false), |place| *place);
        assert_eq!((made.next_cursor.clone(), made.address.matches("cursor").count()), (None, 0));
        assert!(!made.into_response().headers().contains_key("link"));
        let link = page("").unwrap().make(slice(&[7], true), |place| *place).into_response();
        assert!(link.headers()["link"].to_str().unwrap().starts_with("</v1/things?cursor="));
    }

    #[test]
    fn every_filter_is_described() {
        let described = <FilterParameters as utoipa::IntoParams>::into_params(|| None);
        let described: Vec<_> = described.into_iter().map(|parameter| parameter.name).collect();
        let names: Vec<_> =
            crate::query::PARAMETERS.iter().map(|parameter| parameter.name).collect();
        assert_eq!(described, names);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let other_list = write_cursor("others", 7);
        let padded = format!("{}=", write_cursor("things", 7));
        for (query, named) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=ten", "limit"),
            ("limit=", "limit"),
            ("limit=1&limit=1", "limit"),
            ("cursor=", "cursor"),
            ("cursor=!", "cursor"),
            (&format!("cursor={other_list}"), "cursor"),
            (&format!("cursor={padded}"), "cursor"),
            (&format!("cursor={}", URL_SAFE_NO_PAD.encode("things:+7")), "cursor"),
            ("colour=%ff", "colour"),
            ("Limit=1", "Limit"),
            ("size=1&x=2", "size"),
        ] {
            let problem = serde_json::to_value(page(query).unwrap_err()).unwrap();
            assert_eq!((&problem["code"], &problem["field"]), (&"VAL-003".into(), &named.into()));
            assert!(problem["detail"].as_str().unwrap().starts_with(named), "{problem}");
        }
        assert!(page("%ff=1").is_err());
        let long = serde_json::to_value(page(&"x".repeat(10_000)).unwrap_err()).unwrap();
        assert!(long["field"].as_str().unwrap().len() == 64 && long.to_string().len() < 500);
        let many: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
        let many = serde_json::to_value(page(&many.join("&")).unwrap_err()).unwrap();
        assert_eq!((&many["code"], many.get("field")), (&"VAL-003".into(), None));
        assert!(page("&&colour=&").is_ok());
    }
}
