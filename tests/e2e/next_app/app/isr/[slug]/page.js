import { draftMode } from 'next/headers'
import { notFound } from 'next/navigation'
import { Article } from '../../../lib/article'
import { article } from '../../../lib/content'

// Next's own ISR: the tests put it behind `revalidate: origin`.
export const revalidate = 300
export const generateStaticParams = async () => []

export default async function Page({ params }) {
  const found = await article((await params).slug)
  if (!found) notFound()
  const { isEnabled } = await draftMode()
  return <Article article={found} preview={isEnabled} />
}
