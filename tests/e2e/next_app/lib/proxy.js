// What an app behind isr-proxy does when it has published something.
export async function tellProxy(call, selectors) {
  const answer = await fetch(`${process.env.ISR_ADMIN_URL}/v1/${call}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${process.env.ISR_ADMIN_TOKEN}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify(selectors),
    cache: 'no-store',
  })
  if (!answer.ok) throw new Error(`isr-proxy said ${answer.status}: ${await answer.text()}`)
  return answer.json()
}
