// Registers a subscription, publishes an event and reads both, with the types of openapi-typescript.
import createClient from "openapi-fetch";
import type { paths } from "./schema";

const { HOOKLINE_URL, HOOKLINE_KEY, HOOKLINE_ORGANIZATION } = process.env as Record<string, string>;
const client = createClient<paths>({
  baseUrl: HOOKLINE_URL + "/v1",
  headers: { Authorization: `Bearer ${HOOKLINE_KEY}` },
});

async function main() {
  const made = await client.POST("/webhooks", {
    body: { name: "typescript", url: "https://example.com/hooks", events: ["workflow.failed"] },
  });
  if (!made.data) throw new Error(made.error.detail);
  const { id, events, disabled_reason } = made.data;
  const reason: "gone" | "failing" | null = disabled_reason;
  if (reason !== null || events[0] !== "workflow.failed") throw new Error(JSON.stringify(made.data));
  const path = { id };

  const etag = made.response.headers.get("ETag") ?? "";
  const changed = await client.PATCH("/webhooks/{id}", {
    params: { path, header: { "If-Match": etag } }, body: { is_active: false },
  });
  if (changed.data?.is_active !== false) throw new Error(JSON.stringify(changed));

  const event = {
    event_type: "workflow.failed" as const, workflow_id: "wf_ts", organization_id: HOOKLINE_ORGANIZATION!,
    timestamp: new Date().toISOString(), data: { order: 7 },
  };
  const published = await client.POST("/events", { body: [event] });
  if (published.data?.accepted.length !== 1) throw new Error(JSON.stringify(published));

  const none = await client.GET("/webhooks/{id}", { params: { path: { id: 999999999 } } });
  if (none.error?.status !== 404) throw new Error(JSON.stringify(none));
  const deleted = await client.DELETE("/webhooks/{id}", { params: { path } });
  if (deleted.response.status !== 204) throw new Error(JSON.stringify(deleted));
}

main().catch((error) => { console.error(error); process.exit(1); });
