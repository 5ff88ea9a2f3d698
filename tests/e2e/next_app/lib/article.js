export function Article({ article, preview }) {
  return (
    <article>
      <h1>{article.slug}</h1>
      <p>{`text=${article.text}`}</p>
      <p>{`rendered=${article.rendered}`}</p>
      <p>{`preview=${preview ? 'on' : 'off'}`}</p>
    </article>
  )
}
