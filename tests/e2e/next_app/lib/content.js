import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'

// The app's "CMS": one text file per slug, which the tests write.
export async function article(slug) {
  try {
    const text = await readFile(`${process.env.CONTENT_DIR}/${slug}.txt`, 'utf8')
    return { slug, text, rendered: randomUUID() }
  } catch {
    return null
  }
}
