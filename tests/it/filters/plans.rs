//! How the databases mean to find what they are asked for: by an index, and without sorting or walking
//! through a directory.

use chrono::{DateTime, Utc};
use rollcall::actor::Actor;
use rollcall::clock::{Clock as _, SystemClock};
use rollcall::directories::address::Address;
use rollcall::directories::query::{
    Ask, Key, Order, OrderBy, Place, ResourceKind, Selection, Start, Term, Test, opening_statement,
    rows_statement,
};
use rollcall::directories::token::{self, Credential};
use rollcall::ids::{DirectoryGroupId, DirectoryId, DirectoryUserId, ResourceId};
use rollcall::storage::Store;
use rollcall::storage::dialect::Dialect;
use rollcall::storage::tables::{groups, memberships, user_emails, users};
use sea_orm::{ActiveModelTrait, ConnectionTrait, EntityTrait, Statement};

use crate::support::database::Backend;
use crate::support::store::Fixture;

/// How many users and groups each directory has.
const ROWS: usize = 3_000;
/// How many rows one statement inserts.
const CHUNK: usize = 500;
const TAKE: u64 = 100;

#[test]
fn what_providers_ask_for_is_found_by_indexes_on_sqlite() {
    check(Backend::Sqlite);
}

#[test]
fn what_providers_ask_for_is_found_by_indexes_on_postgres() {
    check(Backend::Postgres);
}

fn check(backend: Backend) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let fixture = match backend {
            Backend::Sqlite => Some(Fixture::on_sqlite(2).await),
            Backend::Postgres => Fixture::on_postgres(2).await,
        };
        let Some(fixture) = fixture else {
            return;
        };
        for directory in &fixture.directories {
            fill(&fixture.store, directory.id).await;
        }
        let writer = fixture.store.statement_connection();
        writer.execute_unprepared("ANALYZE").await.unwrap();
        let directory = &fixture.directories[0];
        let draft = token::Draft {
            label: None,
            expires_at: None,
            replace: None,
            active_max: 1,
        };
        let made = token::create(&fixture.store, Actor::SYSTEM, directory.id, draft).await;
        let credential = Credential::parse(made.unwrap().token.expose()).unwrap();
        let mut faults = Vec::new();
        for question in lookups().into_iter().chain(pages()) {
            for statement in question.statements(&fixture, &credential) {
                let plan = plan_of(&fixture.store, statement).await;
                if walks(&plan) || sorts(&plan) && !question.may_sort {
                    faults.push(format!("{}:\n{}", question.title, plan.join("\n")));
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    });
}

/// Something that is asked for.
struct Question {
    title: &'static str,
    kind: ResourceKind,
    terms: Vec<Term>,
    order: Order,
    start: Start,
    /// Whether what is found, which is little, may be sorted.
    may_sort: bool,
}

impl Question {
    fn finds(title: &'static str, kind: ResourceKind, term: Term) -> Self {
        Self {
            title,
            kind,
            terms: vec![term],
            order: Order::BY_ID,
            start: Start::Skip(0),
            may_sort: true,
        }
    }

    fn pages(title: &'static str, kind: ResourceKind, order: Order, start: Start) -> Self {
        Self {
            title,
            kind,
            terms: Vec::new(),
            order,
            start,
            may_sort: false,
        }
    }

    /// The statement of a page, and of the first one when the caller is let in.
    fn statements(&self, fixture: &Fixture, credential: &Credential) -> Vec<Statement> {
        let dialect = fixture.store.dialect();
        let directory = &fixture.directories[0];
        let selection = Selection {
            directory_id: directory.id,
            kind: self.kind,
            terms: &self.terms,
        };
        let mut statements = vec![rows_statement(
            dialect,
            selection,
            self.order,
            &self.start,
            TAKE,
        )];
        if self.start == Start::Skip(0) {
            let ask = Ask {
                kind: self.kind,
                terms: &self.terms,
                order: self.order,
                take: TAKE,
                is_narrow: false,
            };
            let key = Address::of_segment(&directory.external_key).unwrap();
            let now = SystemClock.now();
            statements.push(opening_statement(dialect, &key, credential, now, ask));
        }
        statements
    }
}

/// What providers match by.
fn lookups() -> Vec<Question> {
    use ResourceKind::{Group, User};
    let equal = |key, text: &str| Term::Key(key, Test::Equal(text.to_owned()));
    let starts = |key, text: &str| Term::Key(key, Test::StartsWith(text.to_owned()));
    let id = ResourceId::generate();
    let of_users = [
        ("userName eq", equal(Key::UserName, "user77")),
        ("userName sw", starts(Key::UserName, "user77")),
        ("externalId eq", equal(Key::ExternalId, "x77")),
        ("displayName eq", equal(Key::DisplayName, "name 77")),
        ("displayName sw", starts(Key::DisplayName, "name 77")),
        ("emails eq", equal(Key::Email, "user77@x.org")),
        ("emails sw", starts(Key::Email, "user77@")),
        ("id eq", Term::Id(id)),
        ("several ids", Term::Ids(vec![id; 50])),
    ];
    let of_groups = [
        (
            "a group's displayName eq",
            equal(Key::DisplayName, "name 77"),
        ),
        ("a group's externalId eq", equal(Key::ExternalId, "x77")),
        ("members eq", Term::Member(id)),
    ];
    let users = of_users
        .into_iter()
        .map(|(title, term)| Question::finds(title, User, term));
    let groups = of_groups
        .into_iter()
        .map(|(title, term)| Question::finds(title, Group, term));
    users.chain(groups).collect()
}

/// Pages of everything.
fn pages() -> Vec<Question> {
    use ResourceKind::{Group, User};
    let by_name = |is_descending| Order {
        by: OrderBy::Name,
        is_descending,
    };
    let behind = |name: Option<&str>| {
        Start::After(Place {
            name: name.map(str::to_owned),
            id: ResourceId::generate(),
        })
    };
    let first = || Start::Skip(0);
    vec![
        Question::pages("users", User, Order::BY_ID, first()),
        Question::pages("more users", User, Order::BY_ID, behind(None)),
        Question::pages("users by name", User, by_name(false), first()),
        Question::pages("users by name, back", User, by_name(true), first()),
        Question::pages("more by name", User, by_name(false), behind(Some("user5"))),
        Question::pages(
            "more by name, back",
            User,
            by_name(true),
            behind(Some("user5")),
        ),
        Question::pages("groups", Group, Order::BY_ID, first()),
        Question::pages("more groups", Group, Order::BY_ID, behind(None)),
        Question::pages("groups by name", Group, by_name(false), first()),
        Question::pages(
            "more groups by name",
            Group,
            by_name(false),
            behind(Some("name 5")),
        ),
    ]
}

/// The lines of a plan.
async fn plan_of(store: &Store, mut statement: Statement) -> Vec<String> {
    let (prefix, column) = match store.dialect() {
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN ", "detail"),
        Dialect::Postgres => ("EXPLAIN (COSTS OFF) ", "QUERY PLAN"),
    };
    statement.sql.insert_str(0, prefix);
    let rows = store.reader().query_all_raw(statement).await.unwrap();
    rows.iter()
        .map(|row| row.try_get("", column).unwrap())
        .collect()
}

/// Whether a table of resources is read whole, or a directory in it, each row looked at for a match.
fn walks(plan: &[String]) -> bool {
    let tables = ["users", "groups", "memberships", "user_emails"];
    let mut is_of_resources = false;
    plan.iter().any(|line| {
        if line.contains("Scan ") {
            is_of_resources = tables
                .iter()
                .any(|table| line.contains(&format!(" on {table} ")));
        }
        // Behind a place is checked once more on the rows that the index found to be near it.
        let filter = line.trim_start().strip_prefix("Filter: ");
        let is_filtered = is_of_resources && filter.is_some_and(|text| !text.starts_with("(ROW("));
        let is_whole = is_of_resources && line.contains("Seq Scan on ");
        is_filtered || is_whole || is_scan(line)
    })
}

/// Whether SQLite reads a whole table. There are two directories with an address each and one token;
/// and what it made for this statement alone is small.
fn is_scan(line: &str) -> bool {
    let small = [
        "SCAN a",
        "SCAN d",
        "SCAN t",
        "SCAN caller",
        "SCAN r LEFT-JOIN",
    ];
    line.starts_with("SCAN ") && !small.contains(&line)
}

/// Whether more than the rows of one page are sorted; those are once more, behind the LEFT JOIN.
fn sorts(plan: &[String]) -> bool {
    let is_joined = plan.iter().any(|line| line == "SCAN r LEFT-JOIN");
    let sorts = plan
        .iter()
        .skip(1)
        .filter(|line| line.trim_start() == "->  Sort");
    let trees = plan.iter().filter(|line| line.contains("TEMP B-TREE"));
    sorts.count() > 0 || trees.count() > usize::from(is_joined)
}

async fn fill(store: &Store, directory_id: DirectoryId) {
    let now = SystemClock.now();
    let people: Vec<users::Model> = (0..ROWS).map(|n| user(directory_id, n, now)).collect();
    let sets: Vec<groups::Model> = (0..ROWS).map(|n| group(directory_id, n, now)).collect();
    let members = people.iter().zip(&sets).map(|(user, group)| {
        memberships::ActiveModel::from(memberships::Model {
            directory_id,
            group_id: group.id,
            user_id: user.id,
            display: None,
            created_at: now,
        })
    });
    let emails = people.iter().step_by(5).map(|user| {
        user_emails::ActiveModel::from(user_emails::Model {
            directory_id,
            email_key: format!("other-{}", user.user_name_key),
            user_id: user.id,
        })
    });
    insert(store, people.iter().cloned().map(users::ActiveModel::from)).await;
    insert(store, sets.iter().cloned().map(groups::ActiveModel::from)).await;
    insert(store, members).await;
    insert(store, emails).await;
}

async fn insert<A: ActiveModelTrait + Send>(store: &Store, rows: impl Iterator<Item = A>) {
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        let chunk: Vec<A> = rows.by_ref().take(CHUNK).collect();
        let inserted =
            A::Entity::insert_many(chunk).exec_without_returning(store.statement_connection());
        inserted.await.unwrap();
    }
}

fn user(directory_id: DirectoryId, number: usize, now: DateTime<Utc>) -> users::Model {
    users::Model {
        directory_id,
        id: ResourceId::generate(),
        directory_user_id: DirectoryUserId::generate(),
        user_name_key: format!("user{number}"),
        external_id: Some(format!("x{number}")),
        email_key: Some(format!("user{number}@x.org")),
        display_name_key: Some(format!("name {number}")),
        active: true,
        ended_at: None,
        document: "x".repeat(600),
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

fn group(directory_id: DirectoryId, number: usize, now: DateTime<Utc>) -> groups::Model {
    groups::Model {
        directory_id,
        id: ResourceId::generate(),
        directory_group_id: DirectoryGroupId::generate(),
        display_name_key: format!("name {number}"),
        external_id: Some(format!("x{number}")),
        identity_key: format!("id:x{number}"),
        document: "x".repeat(300),
        version: 1,
        created_at: now,
        updated_at: now,
    }
}
