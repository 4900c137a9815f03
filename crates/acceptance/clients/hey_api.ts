// Registers a subscription, publishes an event and reads both, with the client that @hey-api/openapi-ts has made.
import { createWebhook, deleteWebhook, getWebhook, listWebhooks, publishEvents, updateWebhook } from "./hey";
import { client } from "./hey/client.gen";

const { HOOKLINE_URL, HOOKLINE_KEY, HOOKLINE_ORGANIZATION } = process.env as Record<string, string>;
client.setConfig({ baseUrl: HOOKLINE_URL + "/v1", auth: () => HOOKLINE_KEY });

async function main() {
  const made = await createWebhook({
    body: { name: "hey", url: "https://example.com/hooks", events: ["workflow.failed"] },
  });
  if (!made.data) throw new Error(JSON.stringify(made.error));
  const path = { id: made.data.id };
  const reason: "gone" | "failing" | null = made.data.disabled_reason;
  if (reason !== null) throw new Error(reason);

  const listed = await listWebhooks();
  if (!listed.data?.webhooks.some((one) => one.id === path.id)) throw new Error(JSON.stringify(listed.data));
  const changed = await updateWebhook({ path, body: { is_active: false } });
  if (changed.data?.is_active !== false) throw new Error(JSON.stringify(changed.error));

  const published = await publishEvents({
    body: {
      event_type: "workflow.failed", workflow_id: "wf_hey", organization_id: HOOKLINE_ORGANIZATION!,
      timestamp: new Date().toISOString(), data: { order: 7 },
    },
  });
  if (published.data?.accepted.length !== 1) throw new Error(JSON.stringify(published.error));

  const deleted = await deleteWebhook({ path });
  if (deleted.response?.status !== 204) throw new Error(JSON.stringify(deleted.error));
  const gone = await getWebhook({ path });
  if (gone.response?.status !== 404) throw new Error(JSON.stringify(gone.data));
}

main().catch((error) => { console.error(error); process.exit(1); });
