//! The people and groups that a simulated provider knows.
//!
//! Everything follows from the seed and the position in the list, so that two runs with one plan
//! push the same people. A `userName` is `given.family` in ASCII, as most companies choose it,
//! with a number from the second bearer of a name on: unique however many people are asked for.

use std::collections::BTreeSet;

use super::Dialect;

const DOMAIN: &str = "meridian.example";

/// Given names, each with the spelling it has in a `userName`.
const GIVEN: [(&str, &str); 48] = [
    ("Amélie", "amelie"),
    ("Björn", "bjorn"),
    ("Chiamaka", "chiamaka"),
    ("Diego", "diego"),
    ("Eszter", "eszter"),
    ("Fatima", "fatima"),
    ("Giulia", "giulia"),
    ("Håkon", "hakon"),
    ("Ines", "ines"),
    ("Jürgen", "juergen"),
    ("Kateřina", "katerina"),
    ("Liam", "liam"),
    ("Mónica", "monica"),
    ("Nguyệt", "nguyet"),
    ("Oluwaseun", "oluwaseun"),
    ("Paweł", "pawel"),
    ("Quentin", "quentin"),
    ("Renée", "renee"),
    ("Søren", "soeren"),
    ("Thandiwe", "thandiwe"),
    ("Umut", "umut"),
    ("Valentina", "valentina"),
    ("Wanjiru", "wanjiru"),
    ("Xiomara", "xiomara"),
    ("Yuki", "yuki"),
    ("Zoë", "zoe"),
    ("Anaïs", "anais"),
    ("Bartłomiej", "bartlomiej"),
    ("Celeste", "celeste"),
    ("Đorđe", "djordje"),
    ("Emeka", "emeka"),
    ("François", "francois"),
    ("Gráinne", "grainne"),
    ("健太", "kenta"),
    ("İpek", "ipek"),
    ("João", "joao"),
    ("Kalani", "kalani"),
    ("Łucja", "lucja"),
    ("明美", "akemi"),
    ("Noor", "noor"),
    ("Ólafur", "olafur"),
    ("Priya", "priya"),
    ("Róisín", "roisin"),
    ("Sanjay", "sanjay"),
    ("Tomáš", "tomas"),
    ("Ольга", "olga"),
    ("Vikram", "vikram"),
    ("Ξένια", "xenia"),
];

/// Family names, each with the spelling it has in a `userName`.
const FAMILY: [(&str, &str); 48] = [
    ("Abegunde", "abegunde"),
    ("Bergström", "bergstroem"),
    ("Castañeda", "castaneda"),
    ("Dvořák", "dvorak"),
    ("Eriksen", "eriksen"),
    ("Ferreira", "ferreira"),
    ("García", "garcia"),
    ("Haddad", "haddad"),
    ("Ibrahim", "ibrahim"),
    ("Jónsdóttir", "jonsdottir"),
    ("Kowalczyk", "kowalczyk"),
    ("Lefèvre", "lefevre"),
    ("Müller", "mueller"),
    ("Nakamura", "nakamura"),
    ("O’Brien", "obrien"),
    ("Petrović", "petrovic"),
    ("Quispe", "quispe"),
    ("Rasmussen", "rasmussen"),
    ("Šimůnek", "simunek"),
    ("Tanaka", "tanaka"),
    ("Ünal", "uenal"),
    ("Vasquez", "vasquez"),
    ("Weiß", "weiss"),
    ("Yılmaz", "yilmaz"),
    ("Żuk", "zuk"),
    ("Achterberg", "achterberg"),
    ("Banerjee", "banerjee"),
    ("Conceição", "conceicao"),
    ("de Vries", "devries"),
    ("Fernández", "fernandez"),
    ("Gökçe", "goekce"),
    ("Horváth", "horvath"),
    ("Iyer", "iyer"),
    ("Kamau", "kamau"),
    ("Lindqvist", "lindqvist"),
    ("Mbeki", "mbeki"),
    ("Nguyễn", "nguyen"),
    ("Okonkwo", "okonkwo"),
    ("Papadopoulos", "papadopoulos"),
    ("Reyes", "reyes"),
    ("Schröder", "schroeder"),
    ("Tremblay", "tremblay"),
    ("Usman", "usman"),
    ("van den Berg", "vandenberg"),
    ("Wójcik", "wojcik"),
    ("Zieliński", "zielinski"),
    ("Ødegård", "oedegaard"),
    ("Åkesson", "akesson"),
];

const GROUPS: [&str; 16] = [
    "Engineering",
    "Vertrieb München",
    "People & Culture",
    "Atención al Cliente",
    "東京オフィス",
    "Finance",
    "Équipe Sécurité",
    "Customer Success",
    "Forskning og Utvikling",
    "Zespół Danych",
    "Legal",
    "Marketing LATAM",
    "Site Reliability",
    "Beschaffung",
    "Ürün Yönetimi",
    "Facilities",
];

const TITLES: [&str; 8] = [
    "Engineer",
    "Account Executive",
    "Recruiter",
    "Designer",
    "Analyst",
    "Support Specialist",
    "Controller",
    "Team Lead",
];

const DEPARTMENTS: [&str; 5] = ["Product", "Sales", "People", "Operations", "Finance"];

/// Coprime to the number of combinations, so that stepping by it visits each of them once.
const STRIDE: usize = 7_919;

/// A person as the provider knows them.
#[derive(Debug, Clone)]
pub struct Person {
    /// The provider's own id, sent as `externalId`.
    pub external_id: String,
    /// The name by which the person signs in, sent as `userName`.
    pub user_name: String,
    /// Given name, in its own spelling.
    pub given: &'static str,
    /// Family name, in its own spelling.
    pub family: &'static str,
    /// Job title.
    pub title: &'static str,
    /// Department.
    pub department: &'static str,
    /// Employee number.
    pub employee_number: String,
    /// Whether the provider has the person active.
    pub active: bool,
    /// Whether the provider has deleted the person for good.
    pub gone: bool,
    /// The `id` that the SCIM server gave.
    pub id: Option<String>,
}

impl Person {
    /// Given and family name.
    pub fn display_name(&self) -> String {
        format!("{} {}", self.given, self.family)
    }
}

/// A group as the provider knows it.
#[derive(Debug, Clone)]
pub struct Group {
    /// The provider's own id (Entra sends it as `externalId`, Okta does not).
    pub external_id: String,
    /// Its name.
    pub name: String,
    /// Its members, as places in [`World::people`].
    pub members: BTreeSet<usize>,
    /// Whether the provider has deleted it.
    pub gone: bool,
    /// The `id` that the SCIM server gave.
    pub id: Option<String>,
}

/// All that a simulated provider knows.
#[derive(Debug, Clone)]
pub struct World {
    /// Its people.
    pub people: Vec<Person>,
    /// Its groups.
    pub groups: Vec<Group>,
}

impl World {
    /// Makes the people and groups that a plan asks for.
    pub fn new(dialect: Dialect, users: usize, groups: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ dialect.salt());
        let first = dice.below(GIVEN.len() * FAMILY.len());
        Self {
            people: (0..users)
                .map(|place| person(dialect, place, first, &mut dice))
                .collect(),
            groups: (0..groups)
                .map(|place| group(dialect, place, &mut dice))
                .collect(),
        }
    }
}

/// What a person is called after a marriage: another family name, and the `userName` with it.
pub(super) fn married(person: &Person, place: usize) -> (&'static str, String) {
    let here = FAMILY
        .iter()
        .position(|(family, _)| *family == person.family)
        .unwrap_or(0);
    let (family, ascii) = pick(&FAMILY, here + 7 + place % 5);
    let given = person
        .user_name
        .split_once('.')
        .map_or("", |(given, _)| given);
    // The employee number keeps it unique: nobody else's userName has one in it.
    (
        family,
        format!(
            "{given}.{ascii}.{}@{DOMAIN}",
            person.employee_number.to_ascii_lowercase()
        ),
    )
}

fn person(dialect: Dialect, place: usize, first: usize, dice: &mut Dice) -> Person {
    let combinations = GIVEN.len() * FAMILY.len();
    let combination = (first + place % combinations * STRIDE) % combinations;
    let (given, given_ascii) = pick(&GIVEN, combination % GIVEN.len());
    let (family, family_ascii) = pick(&FAMILY, combination / GIVEN.len());
    let number = match place / combinations {
        0 => String::new(),
        again => (again + 1).to_string(),
    };
    Person {
        external_id: external_id(dialect, "00u", place, dice),
        user_name: format!("{given_ascii}.{family_ascii}{number}@{DOMAIN}"),
        given,
        family,
        title: TITLES
            .get(dice.below(TITLES.len()))
            .copied()
            .unwrap_or("Engineer"),
        department: DEPARTMENTS
            .get(dice.below(DEPARTMENTS.len()))
            .copied()
            .unwrap_or("Product"),
        employee_number: format!("E{:05}", 10_000 + place),
        active: true,
        gone: false,
        id: None,
    }
}

fn group(dialect: Dialect, place: usize, dice: &mut Dice) -> Group {
    let name = GROUPS.get(place % GROUPS.len()).copied().unwrap_or("Group");
    let name = match place / GROUPS.len() {
        0 => name.to_owned(),
        again => format!("{name} {}", again + 1),
    };
    Group {
        external_id: external_id(dialect, "00g", place, dice),
        name,
        members: BTreeSet::new(),
        gone: false,
        id: None,
    }
}

fn pick<'a>(list: &[(&'a str, &'a str)], place: usize) -> (&'a str, &'a str) {
    list.get(place % list.len())
        .copied()
        .unwrap_or(("Alex", "alex"))
}

/// Okta numbers its objects `00u…` in 20 letters and digits; Entra's are GUIDs.
fn external_id(dialect: Dialect, prefix: &str, place: usize, dice: &mut Dice) -> String {
    match dialect {
        Dialect::Okta => {
            const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
            let mut text = prefix.to_owned();
            for _ in 0..10 {
                text.push(LETTERS.get(dice.below(32)).copied().map_or('a', char::from));
            }
            // The place keeps two of them from ever being equal.
            format!("{text}{place:07x}")
        }
        Dialect::Entra => dice.guid(),
    }
}

/// A small deterministic source of variety (`SplitMix64`).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    /// A version 4 GUID.
    pub(super) fn guid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xFFFF,
            high & 0xFFF,
            0x8000 | ((low >> 48) & 0x3FFF),
            low & 0xFFFF_FFFF_FFFF,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn user_names_and_ids_are_unique_at_100_000() {
        for dialect in [Dialect::Okta, Dialect::Entra] {
            let world = World::new(dialect, 100_000, 200, 7);
            let names: HashSet<_> = world.people.iter().map(|p| p.user_name.as_str()).collect();
            let ids: HashSet<_> = world
                .people
                .iter()
                .map(|p| p.external_id.as_str())
                .collect();
            let groups: HashSet<_> = world.groups.iter().map(|g| g.name.as_str()).collect();
            assert_eq!(
                (names.len(), ids.len(), groups.len()),
                (100_000, 100_000, 200)
            );
            assert!(names.iter().all(|name| name.is_ascii()));
        }
    }

    #[test]
    fn married_people_keep_unique_user_names() {
        let world = World::new(Dialect::Okta, 10_000, 0, 7);
        let mut names: HashSet<_> = world.people.iter().map(|p| p.user_name.clone()).collect();
        for (place, person) in world.people.iter().enumerate() {
            let (family, name) = married(person, place);
            assert_ne!(family, person.family);
            assert!(names.insert(name));
        }
    }

    #[test]
    fn one_seed_makes_one_world_and_another_a_different_one() {
        let name = |seed| {
            let world = World::new(Dialect::Okta, 3, 1, seed);
            world
                .people
                .iter()
                .map(|person| person.external_id.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(name(1), name(1));
        assert_ne!(name(1), name(2));
    }
}
