import { Article } from '../../lib/article'
import { article } from '../../lib/content'

export default function Page({ found, preview }) {
  return <Article article={found} preview={preview} />
}

export async function getStaticPaths() {
  return { paths: [], fallback: 'blocking' }
}

export async function getStaticProps({ params, draftMode = false }) {
  const found = await article(params.slug)
  if (!found) return { notFound: true, revalidate: 1 }
  return { props: { found, preview: draftMode }, revalidate: 300 }
}
