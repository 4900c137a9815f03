//! The dead letters of a folder, beside whoever delivers from it.

use std::path::Path;

use hookline_store::{DeadLetter, DeadLetters, Store};

use crate::dead::again::start_again;
use crate::dead::letter::{Exhibit, Letter, about_events, of_store};
use crate::dead::{Act, Aim, Done, Kind, Listed};

/// How many are read at once.
const PAGE: usize = 100;

pub(super) struct Folder {
    store: Store,
    letters: DeadLetters,
}

impl Folder {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let (store, letters) = DeadLetters::beside_embedded(folder)?;
        Ok(Self { store, letters })
    }

    pub(super) async fn list(&self, kind: Kind, limit: u32) -> anyhow::Result<Listed> {
        let mut listed = Listed::default();
        self.each(|letter| match kind_of(&letter) {
            of if of != kind => {}
            _ if listed.letters.len() < limit as usize => {
                listed.letters.push(summary(&letter));
            }
            _ => listed.more += 1,
        })
        .await?;
        Ok(listed)
    }

    pub(super) async fn find(&self, aim: &Aim) -> anyhow::Result<Option<Exhibit>> {
        let Some(letter) = self.aimed_at(aim).await? else {
            return Ok(None);
        };
        let store = match letter.delivery() {
            Some(id) => of_store(&self.store, id).await,
            None => Vec::new(),
        };
        let trace = letter.traceparent.clone();
        Ok(Some(Exhibit {
            letter: summary(&letter),
            content_type: letter.content_type,
            headers: trace
                .into_iter()
                .map(|trace| ("traceparent".to_owned(), trace))
                .collect(),
            body: letter.body,
            store,
        }))
    }

    pub(super) async fn act(&self, act: Act, aim: &Aim) -> anyhow::Result<Done> {
        let mut done = Done::default();
        let mut aimed = Vec::new();
        match aim {
            Aim::One(_) => {
                aimed.extend(self.aimed_at(aim).await?.map(|one| (one.id, kind_of(&one))))
            }
            Aim::All(_) => {
                self.each(|letter| {
                    let kind = kind_of(&letter);
                    if aim.kinds().contains(&kind) {
                        aimed.push((letter.id, kind));
                    }
                })
                .await?;
            }
        }
        for (number, kind) in aimed {
            let id = number.to_string();
            match act {
                Act::Drop => {
                    // Gone already: somebody else was faster.
                    if self.letters.drop(number).await? {
                        done.tell(act, &id, kind);
                    }
                }
                Act::Redrive => match self.put_back(number).await? {
                    Ok(()) => done.tell(act, &id, kind),
                    Err(why) => done.leave(&id, &why),
                },
            }
        }
        Ok(done)
    }

    /// Its delivery is durably owed before the letter is dropped; events go back in one step.
    async fn put_back(&self, number: i64) -> anyhow::Result<Result<(), String>> {
        let letter = self.letters.find(number).await?;
        let is_back = match letter.as_ref().and_then(DeadLetter::delivery) {
            Some(delivery) => match start_again(&self.store, delivery).await? {
                Ok(_) => self.letters.drop(number).await?,
                Err(why) => return Ok(Err(why)),
            },
            None => self.letters.redrive_events(number).await?,
        };
        Ok(match is_back {
            true => Ok(()),
            false => Err("it is gone, or cannot be read".to_owned()),
        })
    }

    async fn aimed_at(&self, aim: &Aim) -> anyhow::Result<Option<DeadLetter>> {
        let Aim::One(id) = aim else { return Ok(None) };
        match id.parse() {
            Ok(number) => Ok(self.letters.find(number).await?),
            Err(_) => Ok(None),
        }
    }

    async fn each(&self, mut visit: impl FnMut(DeadLetter)) -> anyhow::Result<()> {
        let mut after = 0;
        loop {
            let page = self.letters.page(after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.id;
            page.into_iter().for_each(&mut visit);
        }
    }
}

fn kind_of(letter: &DeadLetter) -> Kind {
    match letter.queue.as_str() {
        "events" => Kind::Event,
        _ => Kind::Delivery,
    }
}

fn summary(letter: &DeadLetter) -> Letter {
    Letter {
        id: letter.id.to_string(),
        kind: kind_of(letter),
        reason: letter.reason.clone(),
        since: Some(letter.since()),
        size: letter.size(),
        about: match letter.delivery() {
            Some(id) => vec![("delivery_id", id.to_string())],
            None => about_events(letter.content_type.as_deref(), &letter.body),
        },
    }
}
